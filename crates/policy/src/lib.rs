//! Decides about a command: allow, ask or deny, with the rules and reasons.
//!
//! Pure: command text in, decision out. What it cannot understand completely is *ask*, never
//! *allow*. Knows no tenant's secrets, no SQL, no HTTP.

mod engine;
mod gate;
mod harmless;

pub use engine::{CommandRequest, Decision, Engine, Fact, Outcome, ToolRequest};
