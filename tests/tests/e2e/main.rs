//! End-to-end tests on the real Temporal, Postgres and Docker: one stack for all of them.

mod approvals;
mod audit_log;
mod audit_proof;
mod bad_input;
mod cli;
mod cli_files;
mod events;
mod idempotency;
mod interactive;
mod isolation;
mod main_job;
mod outages;
mod policy;
mod policy_approvals;
mod policy_cli;
mod sandbox;
mod secrecy;
mod turns;
