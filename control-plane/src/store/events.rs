//! Session events: what clients follow. Numbered per session without gaps, announced on commit.

use domain::ids::SessionId;
use serde_json::Value;
use sqlx::FromRow;
use time::OffsetDateTime;

use super::text::clean;
use super::{EVENTS_CHANNEL, Scope, StoreError};

/// What happened. The name is what clients see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum EventKind {
    SessionCreated,
    SessionClosing,
    SessionClosed,
    TurnCreated,
    TurnStarted,
    TurnFinished,
    MessageDelta,
    Message,
    ExecCreated,
    ExecPendingApproval,
    ApprovalVoted,
    ExecQueued,
    ExecWaiting,
    ExecRunning,
    ExecOutput,
    ExecFinished,
    SandboxReplaced,
    ExecutorSilent,
    ExecutorBack,
}

impl EventKind {
    /// The name used in tables and streams.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionCreated => "session.created",
            Self::SessionClosing => "session.closing",
            Self::SessionClosed => "session.closed",
            Self::TurnCreated => "turn.created",
            Self::TurnStarted => "turn.started",
            Self::TurnFinished => "turn.finished",
            Self::MessageDelta => "message.delta",
            Self::Message => "message",
            Self::ExecCreated => "exec.created",
            Self::ExecPendingApproval => "exec.pending_approval",
            Self::ApprovalVoted => "approval.voted",
            Self::ExecQueued => "exec.queued",
            Self::ExecWaiting => "exec.waiting",
            Self::ExecRunning => "exec.running",
            Self::ExecOutput => "exec.output",
            Self::ExecFinished => "exec.finished",
            Self::SandboxReplaced => "sandbox.replaced",
            Self::ExecutorSilent => "executor.silent",
            Self::ExecutorBack => "executor.back",
        }
    }
}

/// One event of a session.
#[derive(Debug, Clone, FromRow)]
pub struct SessionEvent {
    /// Position in the session, from 1.
    pub seq: i64,
    /// What happened.
    #[sqlx(rename = "type")]
    pub kind: String,
    /// Details by kind.
    pub data: Value,
    /// When.
    pub at: OffsetDateTime,
}

impl Scope {
    /// Appends an event and announces it when the transaction commits. Holds the session's row
    /// from here on, so that numbers become visible in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn append_event(
        &mut self,
        session_id: SessionId,
        kind: EventKind,
        data: Value,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "WITH numbered AS (
                 UPDATE sessions SET next_event_seq = next_event_seq + 1
                 WHERE tenant_id = $1 AND id = $2
                 RETURNING next_event_seq - 1 AS seq
             ), added AS (
                 INSERT INTO session_events (tenant_id, session_id, seq, type, data)
                 SELECT $1, $2, seq, $3, $4 FROM numbered
             )
             SELECT pg_notify($5, $2) FROM numbered",
        )
        .bind(owner)
        .bind(session_id.to_string())
        .bind(kind.as_str())
        .bind(clean(data))
        .bind(EVENTS_CHANNEL)
        .fetch_one(self.connection())
        .await?;
        Ok(())
    }

    /// Events after `seq`, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_events(
        &mut self,
        session_id: SessionId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<SessionEvent>, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_as(
            "SELECT seq, type, data, at FROM session_events
             WHERE tenant_id = $1 AND session_id = $2 AND seq > $3 ORDER BY seq LIMIT $4",
        )
        .bind(owner)
        .bind(session_id.to_string())
        .bind(after)
        .bind(limit)
        .fetch_all(self.connection())
        .await?)
    }
}
