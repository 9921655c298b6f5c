//! Recorded commands with what policy said about them, page by page, for simulations. Equal ones of
//! a page are one row: agents repeat themselves.

use domain::ids::ExecId;
use policy::{Mode, Outcome};
use sqlx::FromRow;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Scope, StoreError};

/// Commands of one page.
#[derive(Debug, Default)]
pub struct RecordedPage {
    /// Different ones, the newest first.
    pub commands: Vec<RecordedCommand>,
    /// The oldest exec of the page; older ones are on the next. `None` when there are none.
    pub last: Option<ExecId>,
}

/// A command that was decided about.
#[derive(Debug, Clone)]
pub struct RecordedCommand {
    /// How many of the page are like this one.
    pub count: u64,
    /// The newest exec of it.
    pub exec_id: ExecId,
    /// Whether it is a script; a tool's call otherwise.
    pub is_shell: bool,
    /// The script, or the call.
    pub command: String,
    /// Where it ran.
    pub cwd: String,
    /// Whether it had variables of its own.
    pub has_env: bool,
    /// Why git could not be disarmed for it.
    pub unfit: Option<String>,
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
    last: String,
    count: i64,
    is_shell: bool,
    command: String,
    cwd: String,
    has_env: bool,
    unfit: Option<String>,
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
            count: row.count.unsigned_abs(),
            exec_id: parsed(row.id.parse().ok(), "exec id")?,
            is_shell: row.is_shell,
            command: row.command,
            cwd: row.cwd,
            has_env: row.has_env,
            unfit: row.unfit,
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
    /// Commands that were decided about since then, the newest `limit` of those older than `before`
    /// if given. What a human decided counts as asked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_recorded(
        &mut self,
        since: OffsetDateTime,
        before: Option<ExecId>,
        limit: i64,
    ) -> Result<RecordedPage, StoreError> {
        let owner = self.owner.clone();
        // The newest of a table without statistics: Postgres would sort all of it for every page.
        // For this transaction only.
        sqlx::query("SET LOCAL enable_bitmapscan = off").execute(self.connection()).await?;
        let rows: Vec<Row> = sqlx::query_as(
            "WITH page AS (
                 SELECT e.tenant_id, e.id, e.session_id, e.created_by, e.kind, e.command, e.cwd,
                        e.env, e.git_refused AS unfit, e.decision
                 FROM execs e
                 WHERE e.tenant_id = $1 AND e.created_at >= $2 AND e.decision IS NOT NULL
                   AND e.id < $3
                 ORDER BY e.id DESC LIMIT $4
             ), plain AS (
                 SELECT e.id, e.kind = 'shell' AS is_shell, e.command, e.cwd,
                        e.env <> '{}'::jsonb AS has_env, e.unfit,
                        coalesce(k.name, '') AS token, coalesce(k.role, '') AS role,
                        s.name AS session, s.environment, s.approval_mode,
                        CASE WHEN e.decision->>'decided_by' = 'policy'
                             THEN e.decision->>'outcome' ELSE 'ask' END AS outcome
                 FROM page e JOIN sessions s ON s.tenant_id = e.tenant_id AND s.id = e.session_id
                 LEFT JOIN tokens k ON k.tenant_id = e.tenant_id AND k.id = e.created_by
             )
             SELECT max(id) AS id, min(min(id)) OVER () AS last, count(*) AS count, is_shell,
                    command, cwd, has_env, unfit, token, role, session, environment,
                    approval_mode, outcome
             FROM plain
             GROUP BY is_shell, command, cwd, has_env, unfit, token, role, session,
                      environment, approval_mode, outcome
             ORDER BY id DESC",
        )
        .bind(owner)
        .bind(since)
        // Ids sort by the time of their making; all of them are below the default.
        .bind(before.map_or_else(|| "exf".to_owned(), |id| id.to_string()))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        let last = rows.first().map(|row| parsed(row.last.parse().ok(), "exec id")).transpose()?;
        let commands = rows.into_iter().map(RecordedCommand::try_from).collect::<Result<_, _>>()?;
        Ok(RecordedPage { commands, last })
    }
}
