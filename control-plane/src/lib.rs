//! The control plane: HTTP API, use cases, the store, and the worker of the session workflow.
//!
//! The way through is http → app → store or dispatch, and back; nothing reaches around. Knows no
//! Docker: commands run where executors are.

pub mod app;
pub mod asciicast;
pub mod audit_keys;
pub mod calls;
pub mod checkpoints;
pub mod config;
pub mod demo_model;
pub mod dispatch;
pub mod grants;
pub mod home;
pub mod http;
pub mod hub;
pub mod ids;
pub mod judging;
pub mod keys;
pub mod metrics;
pub mod model;
pub mod outcome;
pub mod rates;
pub mod reaper;
pub mod settings;
pub mod store;
pub mod strangers;
pub mod streams;
pub mod tenant_keys;
pub mod tokens;
pub mod upkeep;
pub mod webhooks;
pub mod worker;
