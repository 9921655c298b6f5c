//! The command line of Bulkhead, and the typed HTTP client that it and the end-to-end tests use.
//!
//! Knows the HTTP API only: never SQL, Docker or Temporal's protocol. `dev` starts the programs
//! that do, as processes.

pub mod arguments;
pub mod client;
pub mod commands;
pub mod connection;
pub mod console;
pub mod dev;
pub mod dev_file;
pub mod duration;
pub mod exit;
mod files;
mod follow;
mod input;
pub mod quoting;
#[cfg(test)]
mod scratch;
mod terminal;
