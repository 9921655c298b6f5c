//! Why a use case refused. Each refusal has a stable code and a sentence that helps.

use protocol::files::FileError;

use crate::dispatch::DispatchError;
use crate::store::StoreError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No token, or none that is valid.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The token's role may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such object, as far as this caller can know.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The state of things does not allow it.
    #[error("{message}")]
    Conflict {
        /// Stable name.
        code: &'static str,
        /// Sentence for people.
        message: String,
    },
    /// A value in the request is not acceptable.
    #[error("{message}")]
    Invalid {
        /// Stable name.
        code: &'static str,
        /// Sentence for people.
        message: String,
    },
    /// There is too much of something already.
    #[error("{message}")]
    TooMany {
        /// Stable name.
        code: &'static str,
        /// Sentence for people.
        message: String,
    },
    /// Something in the request is too large.
    #[error("{message}")]
    TooLarge {
        /// Stable name.
        code: &'static str,
        /// Sentence for people.
        message: String,
    },
    /// A policy that does not load; says where it is wrong.
    #[error("{0}")]
    InvalidPolicy(policy::PolicyError),
    /// A path that is none in the workspace.
    #[error("{message}")]
    BadPath {
        /// Stable name.
        code: &'static str,
        /// Sentence for people.
        message: String,
    },
    /// The request's body did not come to its end.
    #[error("{0}")]
    UnreadableBody(String),
    /// The sandbox refused work on a file.
    #[error("{}", .0.message)]
    Files(FileError),
    /// A later start of this executor has enrolled.
    #[error("a successor of this executor is at work; stop")]
    Fenced,
    /// The session that an executor speaks of lives elsewhere now.
    #[error("the session was moved to another executor; what is known of it is out of date")]
    Moved,
    /// The session's executor does not answer.
    #[error("{0}")]
    ExecutorUnavailable(String),
    /// Postgres does not answer.
    #[error("the database does not answer; start Postgres or check DATABASE_URL, then try again")]
    DatabaseUnavailable(#[source] StoreError),
    /// Temporal does not answer.
    #[error("Temporal does not answer; start it or check TEMPORAL_ADDRESS, then try again")]
    TemporalUnavailable(#[source] DispatchError),
    /// Anything that callers cannot help.
    #[error("something failed inside the control plane; its log says what")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AppError {
    /// Wraps an error that callers cannot help.
    pub fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(error))
    }

    /// A value in the request is not acceptable.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into() }
    }

    /// Turns "no such row" into "no such `what`".
    pub fn of(what: &'static str) -> impl FnOnce(StoreError) -> Self {
        move |error| match error {
            StoreError::NotFound => Self::NotFound(what),
            error => error.into(),
        }
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::DatabaseUnavailable(error),
            StoreError::NotFound => Self::NotFound("object"),
            StoreError::AuditEvent(seq) => {
                tracing::error!(seq, "an audit event was changed in the database");
                Self::Conflict { code: "audit_event_changed", message: error.to_string() }
            }
            error => Self::internal(error),
        }
    }
}
