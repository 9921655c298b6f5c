//! Turns and the model calls that they have had.

use domain::ids::{ExecId, SessionId, TokenId, TurnId};
use sqlx::FromRow;
use time::OffsetDateTime;

use super::error::parsed;
use super::text::clean_text;
use super::{Scope, StoreError};

/// A turn.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Its id.
    pub id: TurnId,
    /// Its session.
    pub session_id: SessionId,
    /// `queued`, `running`, `completed`, `failed` or `interrupted`.
    pub state: String,
    /// What the user said.
    pub input: String,
    /// What the agent answered in the end.
    pub answer: Option<String>,
    /// Why it failed, for people.
    pub error: Option<String>,
    /// The token that asked for it.
    pub created_by: TokenId,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
}

impl Turn {
    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "failed" | "interrupted")
    }
}

/// A model call that was completed.
#[derive(Debug, Clone)]
pub struct StoredStep {
    /// Number in the turn, from 0.
    pub step: u32,
    /// Commands that it asked for.
    pub execs: Vec<ExecId>,
    /// Whether it ended the turn.
    pub done: bool,
}

#[derive(FromRow)]
struct Row {
    id: String,
    session_id: String,
    state: String,
    input: String,
    answer: Option<String>,
    error: Option<String>,
    created_by: String,
    created_at: OffsetDateTime,
    finished_at: Option<OffsetDateTime>,
    traceparent: Option<String>,
}

impl TryFrom<Row> for Turn {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: parsed(row.id.parse().ok(), "turn id")?,
            session_id: parsed(row.session_id.parse().ok(), "turn session")?,
            state: row.state,
            input: row.input,
            answer: row.answer,
            error: row.error,
            created_by: parsed(row.created_by.parse().ok(), "turn creator")?,
            created_at: row.created_at,
            finished_at: row.finished_at,
            traceparent: row.traceparent,
        })
    }
}

impl Scope {
    /// Stores a turn.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_turn(
        &mut self,
        id: TurnId,
        session_id: SessionId,
        input: &str,
        created_by: TokenId,
        traceparent: Option<&str>,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO turns (tenant_id, id, session_id, state, input, created_by, traceparent)
             VALUES ($1, $2, $3, 'queued', $4, $5, $6)",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(session_id.to_string())
        .bind(input)
        .bind(created_by.to_string())
        .bind(traceparent)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// One turn.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such turn.
    pub async fn get_turn(&mut self, id: TurnId) -> Result<Turn, StoreError> {
        let owner = self.owner.clone();
        let row: Row = sqlx::query_as(
            "SELECT id, session_id, state, input, answer, error, created_by, created_at,
                    finished_at, traceparent
             FROM turns WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .fetch_one(self.connection())
        .await?;
        row.try_into()
    }

    /// One turn. Holds its row until the transaction ends.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such turn.
    pub async fn lock_turn(&mut self, id: TurnId) -> Result<Turn, StoreError> {
        let owner = self.owner.clone();
        sqlx::query("SELECT FROM turns WHERE tenant_id = $1 AND id = $2 FOR UPDATE")
            .bind(owner)
            .bind(id.to_string())
            .execute(self.connection())
            .await?;
        self.get_turn(id).await
    }

    /// Turns of a session that are not over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_open_turns(
        &mut self,
        session_id: SessionId,
    ) -> Result<Vec<Turn>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, session_id, state, input, answer, error, created_by, created_at,
                    finished_at, traceparent
             FROM turns WHERE tenant_id = $1 AND session_id = $2
               AND state IN ('queued', 'running') ORDER BY id",
        )
        .bind(owner)
        .bind(session_id.to_string())
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(Turn::try_from).collect()
    }

    /// Marks a turn as running.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start_turn(&mut self, id: TurnId) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query("UPDATE turns SET state = 'running' WHERE tenant_id = $1 AND id = $2")
            .bind(owner)
            .bind(id.to_string())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Ends a turn.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finish_turn(
        &mut self,
        id: TurnId,
        state: &str,
        answer: Option<&str>,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE turns SET state = $3, answer = $4, error = $5, finished_at = now()
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(state)
        .bind(answer.map(clean_text))
        .bind(error.map(clean_text))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The newest completed model call of a turn, if it is number `from` or later.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_step(
        &mut self,
        turn_id: TurnId,
        from: u32,
    ) -> Result<Option<StoredStep>, StoreError> {
        let owner = self.owner.clone();
        let row: Option<(i32, Vec<String>, bool)> = sqlx::query_as(
            "SELECT step, execs, done FROM turn_steps
             WHERE tenant_id = $1 AND turn_id = $2 AND step >= $3 ORDER BY step DESC LIMIT 1",
        )
        .bind(owner)
        .bind(turn_id.to_string())
        .bind(from as i32)
        .fetch_optional(self.connection())
        .await?;
        row.map(|(step, execs, done)| {
            Ok(StoredStep {
                step: parsed(step.try_into().ok(), "step number")?,
                execs: parsed(execs.iter().map(|id| id.parse().ok()).collect(), "step execs")?,
                done,
            })
        })
        .transpose()
    }

    /// Stores a completed model call.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was stored before.
    pub async fn insert_step(
        &mut self,
        turn_id: TurnId,
        step: &StoredStep,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        let execs: Vec<String> = step.execs.iter().map(ToString::to_string).collect();
        sqlx::query(
            "INSERT INTO turn_steps (tenant_id, turn_id, step, execs, done)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(owner)
        .bind(turn_id.to_string())
        .bind(step.step as i32)
        .bind(execs)
        .bind(step.done)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
