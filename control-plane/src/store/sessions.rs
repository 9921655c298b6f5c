//! Sessions.

use domain::ids::{ExecutorId, SandboxId, SessionId, TokenId};
use domain::limits::SandboxLimits;
use domain::sandbox::SandboxRef;
use domain::session::SessionState;
use policy::Mode;
use sqlx::FromRow;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Scope, StoreError};

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: SessionState,
    /// The model that its turns use, unless the worker's default.
    pub model: Option<String>,
    /// How it treats what policy says.
    pub approval_mode: Mode,
    /// What it is for; policies may ask.
    pub environment: String,
    /// What its sandbox may use.
    pub limits: SandboxLimits,
    /// The image that its sandbox is made of, once one was chosen.
    pub image_digest: Option<String>,
    /// The executor that holds its sandbox, once one was chosen.
    pub executor_id: Option<ExecutorId>,
    /// Lowest generation that its sandbox may have from now on.
    pub min_generation: u32,
    /// Its newest sandbox, if it ever had one.
    pub sandbox: Option<SandboxRef>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ended.
    pub closed_at: Option<OffsetDateTime>,
}

/// A session to be stored.
pub struct NewSession<'a> {
    /// Its id.
    pub id: SessionId,
    /// Its name.
    pub name: &'a str,
    /// The model that its turns use.
    pub model: Option<&'a str>,
    /// How it treats what policy says.
    pub approval_mode: Mode,
    /// What it is for; policies may ask.
    pub environment: &'a str,
    /// What its sandbox may use.
    pub limits: SandboxLimits,
    /// The token that asked for it.
    pub created_by: TokenId,
}

#[derive(FromRow)]
struct Row {
    id: String,
    name: String,
    state: String,
    model: Option<String>,
    approval_mode: String,
    environment: String,
    limits: Json<SandboxLimits>,
    image_digest: Option<String>,
    executor_id: Option<String>,
    sandbox_id: Option<String>,
    sandbox_generation: Option<i32>,
    min_generation: i32,
    created_at: OffsetDateTime,
    closed_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Session {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let executor_id =
            row.executor_id.map(|id| parsed(id.parse().ok(), "session executor")).transpose()?;
        Ok(Self {
            executor_id,
            id: parsed(row.id.parse().ok(), "session id")?,
            name: row.name,
            state: parsed(SessionState::from_name(&row.state), "session state")?,
            model: row.model,
            approval_mode: parsed(Mode::from_name(&row.approval_mode), "session approval mode")?,
            environment: row.environment,
            limits: row.limits.0,
            image_digest: row.image_digest,
            min_generation: row.min_generation.try_into().unwrap_or(1),
            sandbox: sandbox(row.sandbox_id.as_deref(), row.sandbox_generation)?,
            created_at: row.created_at,
            closed_at: row.closed_at,
        })
    }
}

/// A sandbox from its two columns.
pub(super) fn sandbox(
    id: Option<&str>,
    generation: Option<i32>,
) -> Result<Option<SandboxRef>, StoreError> {
    let (Some(id), Some(generation)) = (id, generation) else { return Ok(None) };
    Ok(Some(SandboxRef {
        id: parsed(id.parse::<SandboxId>().ok(), "sandbox id")?,
        generation: parsed(generation.try_into().ok(), "sandbox generation")?,
    }))
}

/// Where a session's newest exec ran.
#[derive(Debug)]
pub struct Moved {
    /// The generation of the sandbox before, if it is another one now.
    pub before: Option<u32>,
    /// The image that the session's sandboxes are made from.
    pub image_digest: Option<String>,
}

impl Scope {
    /// Stores a session.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_session(&mut self, session: &NewSession<'_>) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO sessions
                 (tenant_id, id, name, state, model, approval_mode, limits, created_by, environment)
             VALUES ($1, $2, $3, 'open', $4, $5, $6, $7, $8)",
        )
        .bind(owner)
        .bind(session.id.to_string())
        .bind(session.name)
        .bind(session.model)
        .bind(session.approval_mode.as_str())
        .bind(Json(session.limits))
        .bind(session.created_by.to_string())
        .bind(session.environment)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// One session.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such session.
    pub async fn get_session(&mut self, id: SessionId) -> Result<Session, StoreError> {
        let owner = self.owner.clone();
        let row: Row = sqlx::query_as(
            "SELECT id, name, state, model, approval_mode, environment, limits, image_digest,
                    executor_id, sandbox_id, sandbox_generation, min_generation, created_at, closed_at
             FROM sessions WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .fetch_one(self.connection())
        .await?;
        row.try_into()
    }

    /// Sessions, newest first, older than `before` if given.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_sessions(
        &mut self,
        before: Option<SessionId>,
        limit: i64,
    ) -> Result<Vec<Session>, StoreError> {
        let owner = self.owner.clone();
        // Ids are UUIDv7: their order is the order of creation.
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, state, model, approval_mode, environment, limits, image_digest,
                    executor_id, sandbox_id, sandbox_generation, min_generation, created_at, closed_at
             FROM sessions WHERE tenant_id = $1 AND id < coalesce($2, 'set')
             ORDER BY id DESC LIMIT $3",
        )
        .bind(owner)
        .bind(before.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(Session::try_from).collect()
    }

    /// Changes a session's state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_session_state(
        &mut self,
        id: SessionId,
        state: SessionState,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE sessions SET state = $3,
                    closed_at = CASE WHEN $3 = 'closed' THEN now() ELSE closed_at END
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(state.as_str())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// One session, which stays as it is until the transaction ends: it cannot be closed under
    /// work that is being accepted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such session.
    pub async fn hold_session(&mut self, id: SessionId) -> Result<Session, StoreError> {
        let owner = self.owner.clone();
        sqlx::query("SELECT FROM sessions WHERE tenant_id = $1 AND id = $2 FOR UPDATE")
            .bind(owner)
            .bind(id.to_string())
            .execute(self.connection())
            .await?;
        self.get_session(id).await
    }

    /// Keeps where a session's sandbox is and what it is made of, unless that was chosen before; tells
    /// whether it did.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pin_session(
        &mut self,
        id: SessionId,
        executor_id: ExecutorId,
        image_digest: &str,
    ) -> Result<bool, StoreError> {
        let owner = self.owner.clone();
        let done = sqlx::query(
            "UPDATE sessions SET executor_id = $3, image_digest = $4
             WHERE tenant_id = $1 AND id = $2 AND executor_id IS NULL",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(executor_id.to_string())
        .bind(image_digest)
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives a session another home, unless that happened meanwhile; tells whether it did. Its next
    /// sandbox is of a later generation than any before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn move_session(
        &mut self,
        id: SessionId,
        from: ExecutorId,
        to: ExecutorId,
        image_digest: &str,
    ) -> Result<bool, StoreError> {
        let owner = self.owner.clone();
        let done = sqlx::query(
            "UPDATE sessions SET executor_id = $4, image_digest = $5,
                    min_generation = greatest(min_generation, coalesce(sandbox_generation, 0)) + 1
             WHERE tenant_id = $1 AND id = $2 AND executor_id = $3",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(from.to_string())
        .bind(to.to_string())
        .bind(image_digest)
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Keeps the sandbox that a session's newest exec ran in. An older sandbox than the newest known
    /// changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_session_sandbox(
        &mut self,
        id: SessionId,
        sandbox: SandboxRef,
    ) -> Result<Moved, StoreError> {
        let owner = self.owner.clone();
        let (image_digest, before): (Option<String>, Option<i32>) = sqlx::query_as(
            "WITH moved AS (
                 UPDATE sessions new SET sandbox_id = $3, sandbox_generation = $4
                 FROM sessions old
                 WHERE new.tenant_id = $1 AND new.id = $2
                   AND old.tenant_id = new.tenant_id AND old.id = new.id
                   AND new.sandbox_id IS DISTINCT FROM $3
                   AND coalesce(new.sandbox_generation, 0) <= $4
                 RETURNING old.sandbox_generation)
             SELECT image_digest, (SELECT sandbox_generation FROM moved)
             FROM sessions WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(sandbox.id.to_string())
        .bind(i32::try_from(sandbox.generation).unwrap_or(i32::MAX))
        .fetch_one(self.connection())
        .await?;
        let before = before.and_then(|generation| generation.try_into().ok());
        Ok(Moved { before, image_digest })
    }
}
