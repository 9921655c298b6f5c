//! How execs and turns end. Execs: whoever brings the news: the worker, or an executor that reports directly. Both
//! ways lead through here, under the exec's row lock, so that each exec ends once.

pub(crate) mod closing;
pub(crate) mod files;
mod plausible;
pub(crate) mod reply;
pub(crate) mod turns;

use crate::store::StoreError;

/// An end could not be written down; safe to try again.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    /// The database failed.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// A sealed value could not be opened.
    #[error("sealing: {0}")]
    Seal(#[from] sealing::SealError),
    /// A state machine refused. A bug, or a forged message.
    #[error("{0}")]
    Illegal(#[from] domain::IllegalTransition),
}
