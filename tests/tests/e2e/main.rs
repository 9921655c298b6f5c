//! End-to-end tests on the real Temporal, Postgres and Docker: one stack for all of them.

mod approvals;
mod audit_faults;
mod audit_log;
mod audit_proof;
mod audit_rows;
mod authorization;
mod bad_input;
mod cli;
mod cli_files;
mod events;
mod idempotency;
mod interactive;
mod isolation;
mod limits;
mod main_job;
mod operations;
mod outages;
mod policy;
mod policy_approvals;
mod policy_cli;
mod replicas;
mod sandbox;
mod secrecy;
mod streams;
mod turns;
mod webhooks;
