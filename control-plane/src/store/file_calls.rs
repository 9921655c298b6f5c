//! Work on files between its request and its outcome, both of which the audit log has.

use domain::ids::{FileCallId, SessionId, TokenId};
use sqlx::FromRow;

use super::error::parsed;
use super::{Scope, StoreError};

/// Work on files of which nobody told how it ended.
#[derive(Debug)]
pub struct OpenFileCall {
    /// Its id, which its audit events have too.
    pub id: FileCallId,
    /// Whose workspace.
    pub session_id: SessionId,
    /// Who asked for it.
    pub token_id: TokenId,
    /// The action of its audit events.
    pub action: String,
    /// What it is about.
    pub path: String,
}

#[derive(FromRow)]
struct Row {
    id: String,
    session_id: String,
    token_id: String,
    action: String,
    path: String,
}

impl TryFrom<Row> for OpenFileCall {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let Row { id, session_id, token_id, action, path } = row;
        let id = parsed(id.parse().ok(), "a file call")?;
        let session_id = parsed(session_id.parse().ok(), "a file call's session")?;
        let token_id = parsed(token_id.parse().ok(), "a file call's token")?;
        Ok(Self { id, session_id, token_id, action, path })
    }
}

impl Scope {
    /// Writes down that work on files begins.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_file_call(&mut self, call: &OpenFileCall) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO file_calls (tenant_id, id, session_id, token_id, action, path)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(owner)
        .bind(call.id.to_string())
        .bind(call.session_id.to_string())
        .bind(call.token_id.to_string())
        .bind(&call.action)
        .bind(&call.path)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Its outcome is about to be written down, unless it was closed already (`false`).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn close_file_call(&mut self, id: FileCallId) -> Result<bool, StoreError> {
        let owner = self.owner.clone();
        let done = sqlx::query("DELETE FROM file_calls WHERE tenant_id = $1 AND id = $2")
            .bind(owner)
            .bind(id.to_string())
            .execute(self.connection())
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Closes what began more than `age_s` seconds ago and what nobody else is closing now: at most
    /// `limit` of it. Gives it, for the audit log.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn close_overdue_file_calls(
        &mut self,
        age_s: f64,
        limit: i64,
    ) -> Result<Vec<OpenFileCall>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<Row> = sqlx::query_as(
            "DELETE FROM file_calls WHERE tenant_id = $1 AND id IN (
                 SELECT id FROM file_calls
                 WHERE tenant_id = $1 AND begun_at < now() - make_interval(secs => $2)
                 ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED)
             RETURNING id, session_id, token_id, action, path",
        )
        .bind(owner)
        .bind(age_s)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(OpenFileCall::try_from).collect()
    }
}
