//! Erasure of details of audit events. What may go is decided by the database's own function: the
//! service's role cannot change an event.

use domain::ids::{ExecId, SessionId};
use sqlx::FromRow;
use time::OffsetDateTime;

use super::{Scope, StoreError};

/// Whose details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasureScope {
    /// Of the events of an exec.
    Exec(ExecId),
    /// Of the events of a session.
    Session(SessionId),
    /// Of all events before a time.
    Before(OffsetDateTime),
}

/// What an erasure did.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Erased {
    /// How many events lost their details now.
    pub erased: i64,
    /// How many of the scope keep theirs: no checkpoint covers them yet, or their exec is not over.
    /// Unknown while there is more to erase.
    pub kept: Option<i64>,
}

impl Erased {
    /// Whether there is more to erase.
    pub fn has_more(&self) -> bool {
        self.kept.is_none()
    }
}

impl Scope {
    /// Erases the details of at most `most` events of this scope's chain, with the words under which
    /// they are found. What is hashed stays, so the chain still verifies.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn erase_audit(
        &mut self,
        what: ErasureScope,
        most: i64,
    ) -> Result<Erased, StoreError> {
        let (exec_id, session_id, before) = match what {
            ErasureScope::Exec(id) => (Some(id.to_string()), None, None),
            ErasureScope::Session(id) => (None, Some(id.to_string()), None),
            ErasureScope::Before(time) => (None, None, Some(time)),
        };
        let micros = |time: OffsetDateTime| {
            i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
        };
        Ok(sqlx::query_as("SELECT erased, kept FROM erase_audit_details($1, $2, $3, $4)")
            .bind(exec_id)
            .bind(session_id)
            .bind(before.map(micros))
            .bind(most)
            .fetch_one(self.connection())
            .await?)
    }
}
