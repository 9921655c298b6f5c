//! The vocabulary of Bulkhead as types: ids, states with their legal transitions, roles, limits.
//!
//! Pure: no I/O, no async, no clock, no randomness. Every other crate depends on this one and
//! this one depends on none of them.

pub mod access;
pub mod agenda;
pub mod approval;
pub mod exec;
pub mod ids;
pub mod limits;
pub mod quota;
pub mod sampling;
pub mod sandbox;
pub mod session;

/// A state machine was asked for a step that its current state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{subject} cannot {event} while {state}")]
pub struct IllegalTransition {
    /// What the state belongs to, such as `exec`.
    pub subject: &'static str,
    /// The state it is in.
    pub state: String,
    /// The event that was refused.
    pub event: String,
}
