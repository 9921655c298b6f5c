//! Use cases: authorise, change, tell the workflow. No HTTP types, no SQL.

mod approvals;
mod caller;
pub mod checks;
mod error;
mod executors;
mod idempotency;
mod sessions;
mod submit_exec;
mod submit_turn;
mod tenants;
mod tokens;

pub use approvals::{DecideApproval, Verdict};
pub use caller::Caller;
pub use error::AppError;
pub use sessions::CreateSession;
pub use submit_exec::{SubmitExec, SubmittedExec};
pub use tokens::{CreateToken, CreatedToken};

use std::sync::Arc;

use crate::dispatch::Dispatcher;
use crate::hub::Hub;
use crate::keys::Keys;
use crate::store::Store;
use crate::tokens::Verifier;

/// Everything that a request needs.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// The way to workflows.
    pub dispatcher: Arc<Dispatcher>,
    /// Wakes waiters.
    pub hub: Arc<Hub>,
    /// Secrets.
    pub keys: Arc<Keys>,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// What executors are told of Temporal.
    pub temporal: crate::config::TemporalConfig,
}
