//! What can go wrong in the store.

/// A store call failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or broke off. Nothing was committed.
    #[error("the database does not answer")]
    Unavailable(#[source] sqlx::Error),
    /// The object is not there, or belongs to another tenant: the two cannot be told apart.
    #[error("not found")]
    NotFound,
    /// A uniqueness rule was broken; names the constraint.
    #[error("conflicts with what is there ({0})")]
    Conflict(String),
    /// A row does not make sense.
    #[error("stored {0} is not readable")]
    Inconsistent(&'static str),
    /// An audit event is not as anything of ours writes one.
    #[error("audit event {0} is not as it was written: somebody changed it in the database")]
    AuditEvent(i64),
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
    /// A migration failed.
    #[error("migration failed")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Any other database error.
    #[error("database error")]
    Driver(#[source] sqlx::Error),
}

const TRY_AGAIN: [&str; 5] = ["25006", "40P01", "40001", "55P03", "57014"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::RowNotFound => Self::NotFound,
            E::Io(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
                Self::Unavailable(error)
            }
            E::Database(database) if database.is_unique_violation() => {
                Self::Conflict(database.constraint().unwrap_or("unique").into())
            }
            // 57P: the server is starting, stopping or was stopped. 25006: it is read-only.
            // 40P01, 40001, 55P03, 57014: a deadlock, a conflict or a wait that was broken off.
            E::Database(database)
                if database
                    .code()
                    .is_some_and(|code| code.starts_with("57P") || TRY_AGAIN.contains(&&*code)) =>
            {
                Self::Unavailable(error)
            }
            _ => Self::Driver(error),
        }
    }
}

/// Reads a stored id or state; a failure names the column.
pub(super) fn parsed<T>(value: Option<T>, column: &'static str) -> Result<T, StoreError> {
    value.ok_or(StoreError::Inconsistent(column))
}
