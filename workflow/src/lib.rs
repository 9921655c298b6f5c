//! The session workflow: the durable loop of a conversation, and what it asks of activities.
//!
//! Deterministic: no clock, randomness, environment, unordered map or runtime (see `clippy.toml`).
//! Knows no SQL, no HTTP, no Docker, no command text: it moves ids and sealed values.

pub mod activities;
mod exec;
mod jobs;
mod options;
mod session;
mod turn;

pub use session::SessionWorkflow;
