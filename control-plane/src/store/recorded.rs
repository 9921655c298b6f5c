//! Recorded commands with what policy said about them, page by page, for simulations.

use domain::ids::ExecId;
use policy::{Mode, Outcome};
use sqlx::FromRow;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Scope, StoreError};

/// A command that was decided about.
#[derive(Debug, Clone)]
pub struct RecordedCommand {
    /// The exec.
    pub exec_id: ExecId,
    /// Whether it is a script; a tool's call otherwise.
    pub is_shell: bool,
    /// The script, or the call.
    pub command: String,
    /// Where it ran.
    pub cwd: String,
    /// Whether it had variables of its own.
    pub has_env: bool,
    /// The name of the token that asked.
    pub token: String,
    /// Its role.
    pub role: String,
    /// The name of the session.
    pub session: String,
    /// What the session is for.
    pub environment: String,
    /// How the session treats what policy says.
    pub mode: Mode,
    /// What policy had said, whatever people said then.
    pub outcome: Outcome,
}

#[derive(FromRow)]
struct Row {
    id: String,
    is_shell: bool,
    command: String,
    cwd: String,
    has_env: bool,
    token: String,
    role: String,
    session: String,
    environment: String,
    approval_mode: String,
    outcome: String,
}

impl TryFrom<Row> for RecordedCommand {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            exec_id: parsed(row.id.parse().ok(), "exec id")?,
            is_shell: row.is_shell,
            command: row.command,
            cwd: row.cwd,
            has_env: row.has_env,
            token: row.token,
            role: row.role,
            session: row.session,
            environment: row.environment,
            mode: parsed(Mode::from_name(&row.approval_mode), "session approval mode")?,
            outcome: parsed(Outcome::from_name(&row.outcome), "exec decision")?,
        })
    }
}

impl Scope {
    /// Commands that were decided about since then, newest first, older than `before` if given.
    /// What a human decided counts as asked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_recorded(
        &mut self,
        since: OffsetDateTime,
        before: Option<ExecId>,
        limit: i64,
    ) -> Result<Vec<RecordedCommand>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT e.id, e.kind = 'shell' AS is_shell, e.command, e.cwd,
                    e.env <> '{}'::jsonb AS has_env, coalesce(k.name, '') AS token,
                    coalesce(k.role, '') AS role, s.name AS session, s.environment,
                    s.approval_mode,
                    CASE WHEN e.decision->>'decided_by' = 'policy'
                         THEN e.decision->>'outcome' ELSE 'ask' END AS outcome
             FROM execs e JOIN sessions s ON s.tenant_id = e.tenant_id AND s.id = e.session_id
             LEFT JOIN tokens k ON k.tenant_id = e.tenant_id AND k.id = e.created_by
             WHERE e.tenant_id = $1 AND e.created_at >= $2 AND e.decision IS NOT NULL
               AND ($3::text IS NULL OR e.id < $3)
             ORDER BY e.id DESC LIMIT $4",
        )
        .bind(owner)
        .bind(since)
        .bind(before.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(RecordedCommand::try_from).collect()
    }
}
