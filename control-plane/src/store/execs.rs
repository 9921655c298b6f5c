//! Execs: what was asked, what was decided, how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::exec::ExecState;
use domain::ids::{ApprovalId, ExecId, ExecutorId, SessionId, TurnId};
use domain::sandbox::SandboxRef;
use policy::{Decision, Outcome};
use protocol::checks::{Checks, NamedPath};
use protocol::enrolment::Loss;
use protocol::exec::{ExecKind, StreamSummary};
#[cfg(doc)]
use protocol::init::Stream;
use protocol::init::TerminalSize;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, QueryBuilder};
use time::OffsetDateTime;

use super::error::parsed;
use super::sessions::sandbox;
use super::text::clean_text;
use super::{Scope, StoreError};

/// How long a permitted exec usually takes to be started, at most.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// An exec.
#[derive(Debug, Clone)]
pub struct Exec {
    /// Its id.
    pub id: ExecId,
    /// Its session.
    pub session_id: SessionId,
    /// The turn that it belongs to, when a model asked for it.
    pub turn_id: Option<TurnId>,
    /// The model's own id for the call.
    pub call_id: Option<String>,
    /// Where it stands.
    pub state: ExecState,
    /// What `command` is.
    pub kind: ExecKind,
    /// Script for `bash -c`, or the text of a tool call.
    pub command: String,
    /// Nobody waits for it.
    pub background: bool,
    /// It takes input while it runs.
    pub stdin_open: bool,
    /// It has a terminal, of this size at its start.
    pub terminal: Option<TerminalSize>,
    /// Processes that were ended with it.
    pub survivors: u32,
    /// Where it runs.
    pub cwd: String,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// Its standard input.
    pub stdin: Option<Vec<u8>>,
    /// Milliseconds it may run.
    pub timeout_ms: u64,
    /// What policy and people said, once they did.
    pub decision: Option<RecordedDecision>,
    /// The question that it waits or waited for.
    pub approval_id: Option<ApprovalId>,
    /// Why its sandbox refused to start it as a command that policy allows.
    pub unfit: Option<String>,
    /// Somebody called it off, or a later version of the policy did.
    pub cancel_requested: bool,
    /// What a later version of the policy said against it, after it was allowed.
    pub recalled: Option<RecordedDecision>,
    /// Why it has not started yet.
    pub waiting_reason: Option<String>,
    /// Why it never started.
    pub error: Option<ExecError>,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Killed for want of memory.
    pub oom_killed: bool,
    /// Where it ran.
    pub sandbox: Option<SandboxRef>,
    /// Its standard output, when it is over.
    pub stdout: Option<StoredStream>,
    /// Its standard error, when it is over.
    pub stderr: Option<StoredStream>,
    /// What is missing of each of them for good, by [`Stream::index`].
    pub lost: [Option<Loss>; 2],
    /// The token on whose behalf it runs.
    pub created_by: String,
    /// The executor that it was granted to.
    pub executor_id: Option<ExecutorId>,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When it was started.
    pub started_at: Option<OffsetDateTime>,
    /// When it was over.
    pub finished_at: Option<OffsetDateTime>,
    /// How long it ran, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
}

/// Who decided where nobody did.
pub const BY_POLICY: &str = "policy";

/// A decision with the version and the person behind it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedDecision {
    /// What policy said.
    #[serde(flatten)]
    pub decision: Decision,
    /// The policy version that said it.
    pub policy_version: i64,
    /// [`BY_POLICY`], or who approved or denied.
    pub decided_by: String,
}

/// Why an exec never started.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExecError {
    /// Stable name.
    pub code: String,
    /// Sentence for people.
    pub message: String,
}

/// Summary of a finished stream.
pub type StoredStream = StreamSummary;

/// Which execs to list; all, without.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecFilter {
    /// Only those in this state.
    pub state: Option<ExecState>,
    /// Only those that run in the background, or only the others.
    pub background: Option<bool>,
}

/// An exec to be stored.
pub struct NewExec<'a> {
    /// Its id.
    pub id: ExecId,
    /// Its session.
    pub session_id: SessionId,
    /// The turn and call that it belongs to, when a model asked for it.
    pub call: Option<(TurnId, &'a str)>,
    /// What `command` is.
    pub kind: ExecKind,
    /// Script for `bash -c`, or the text of a tool call.
    pub command: &'a str,
    /// Nobody waits for it.
    pub background: bool,
    /// It takes input while it runs.
    pub stdin_open: bool,
    /// It gets a terminal.
    pub terminal: Option<TerminalSize>,
    /// Where it runs.
    pub cwd: &'a str,
    /// Its variables.
    pub env: &'a BTreeMap<String, String>,
    /// Its standard input.
    pub stdin: Option<&'a [u8]>,
    /// Milliseconds it may run.
    pub timeout_ms: u64,
    /// The token on whose behalf it runs.
    pub created_by: &'a str,
    /// The trace that it belongs to.
    pub traceparent: Option<&'a str>,
}

#[derive(FromRow)]
pub(super) struct Row {
    id: String,
    session_id: String,
    turn_id: Option<String>,
    call_id: Option<String>,
    state: String,
    kind: String,
    command: String,
    background: bool,
    stdin_open: bool,
    terminal: Option<Json<TerminalSize>>,
    survivors: i32,
    cwd: String,
    env: Json<BTreeMap<String, String>>,
    stdin: Option<Vec<u8>>,
    timeout_ms: i64,
    decision: Option<Json<RecordedDecision>>,
    approval_id: Option<String>,
    #[sqlx(rename = "git_refused")]
    unfit: Option<String>,
    cancel_requested: bool,
    recalled: Option<Json<RecordedDecision>>,
    waiting_reason: Option<String>,
    error: Option<Json<ExecError>>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    oom_killed: bool,
    sandbox_id: Option<String>,
    sandbox_generation: Option<i32>,
    stdout: Option<Json<StoredStream>>,
    stderr: Option<Json<StoredStream>>,
    stdout_lost: Option<Json<Loss>>,
    stderr_lost: Option<Json<Loss>>,
    created_by: String,
    executor_id: Option<String>,
    created_at: OffsetDateTime,
    started_at: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
    duration_ms: Option<i64>,
    traceparent: Option<String>,
}

fn kind(name: &str) -> Option<ExecKind> {
    match name {
        "shell" => Some(ExecKind::Shell),
        "tool" => Some(ExecKind::Tool),
        _ => None,
    }
}

impl RecordedDecision {
    /// What has to be looked at before it starts. What people allowed runs as they saw it.
    pub fn checks(&self) -> Checks {
        if self.decided_by != BY_POLICY {
            return Checks::default();
        }
        let named = |path: policy::NamedPath<'_>| NamedPath {
            path: path.path.to_owned(),
            follows_links: path.follows_links,
        };
        Checks {
            git_folders: self.decision.git_folders().into_iter().map(str::to_owned).collect(),
            paths: self.decision.named_paths().into_iter().map(named).collect(),
        }
    }
}

impl Exec {
    /// Whether its executor should have started it by now, and nobody knows why it has not.
    pub fn waits_for_start(&self) -> bool {
        self.state == ExecState::Queued
            && self.waiting_reason.is_none()
            && self.may_have_started()
            && OffsetDateTime::now_utc() - self.created_at > START_PATIENCE
    }

    /// Whether its executor may have been given it: whoever calls it off has to ask there.
    pub fn may_have_started(&self) -> bool {
        let allowed = |recorded: &RecordedDecision| recorded.decision.outcome == Outcome::Allow;
        matches!(self.state, ExecState::Queued | ExecState::Running)
            && self.decision.as_ref().is_some_and(allowed)
    }
}

impl TryFrom<Row> for Exec {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let turn_id = row.turn_id.map(|id| parsed(id.parse().ok(), "exec turn")).transpose()?;
        let approval_id =
            row.approval_id.map(|id| parsed(id.parse().ok(), "exec approval")).transpose()?;
        Ok(Self {
            id: parsed(row.id.parse().ok(), "exec id")?,
            session_id: parsed(row.session_id.parse().ok(), "exec session")?,
            turn_id,
            call_id: row.call_id,
            state: parsed(ExecState::from_name(&row.state), "exec state")?,
            kind: parsed(kind(&row.kind), "exec kind")?,
            command: row.command,
            background: row.background,
            stdin_open: row.stdin_open,
            terminal: row.terminal.map(|json| json.0),
            survivors: row.survivors.unsigned_abs(),
            cwd: row.cwd,
            env: row.env.0,
            stdin: row.stdin,
            timeout_ms: row.timeout_ms.try_into().unwrap_or(0),
            decision: row.decision.map(|json| json.0),
            approval_id,
            unfit: row.unfit,
            cancel_requested: row.cancel_requested,
            recalled: row.recalled.map(|json| json.0),
            waiting_reason: row.waiting_reason,
            error: row.error.map(|json| json.0),
            exit_code: row.exit_code,
            signal: row.signal,
            oom_killed: row.oom_killed,
            sandbox: sandbox(row.sandbox_id.as_deref(), row.sandbox_generation)?,
            stdout: row.stdout.map(|json| json.0),
            stderr: row.stderr.map(|json| json.0),
            lost: [row.stdout_lost, row.stderr_lost].map(|lost| lost.map(|json| json.0)),
            created_by: row.created_by,
            executor_id: row
                .executor_id
                .map(|id| parsed(id.parse().ok(), "exec executor"))
                .transpose()?,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            duration_ms: row.duration_ms.and_then(|ms| ms.try_into().ok()),
            traceparent: row.traceparent,
        })
    }
}

impl Scope {
    /// Stores an exec, queued.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_exec(&mut self, exec: &NewExec<'_>) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO execs (tenant_id, id, session_id, turn_id, call_id, state, command, cwd,
                                env, stdin, timeout_ms, created_by, kind, background,
                                stdin_open, terminal, traceparent)
             VALUES ($1, $2, $3, $4, $5, 'queued', $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                     $16)",
        )
        .bind(owner)
        .bind(exec.id.to_string())
        .bind(exec.session_id.to_string())
        .bind(exec.call.map(|(turn_id, _)| turn_id.to_string()))
        .bind(exec.call.map(|(_, call_id)| clean_text(call_id)))
        .bind(exec.command)
        .bind(exec.cwd)
        .bind(Json(exec.env))
        .bind(exec.stdin)
        .bind(exec.timeout_ms as i64)
        .bind(exec.created_by)
        .bind(if exec.kind.is_shell() { "shell" } else { "tool" })
        .bind(exec.background)
        .bind(exec.stdin_open)
        .bind(exec.terminal.map(Json))
        .bind(exec.traceparent)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// One exec.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such exec.
    pub async fn get_exec(&mut self, id: ExecId) -> Result<Exec, StoreError> {
        let owner = self.owner.clone();
        let row: Row = sqlx::query_as("SELECT * FROM execs WHERE tenant_id = $1 AND id = $2")
            .bind(owner)
            .bind(id.to_string())
            .fetch_one(self.connection())
            .await?;
        row.try_into()
    }

    /// One exec. Holds its row until the transaction ends.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such exec.
    pub async fn lock_exec(&mut self, id: ExecId) -> Result<Exec, StoreError> {
        let owner = self.owner.clone();
        let row: Row =
            sqlx::query_as("SELECT * FROM execs WHERE tenant_id = $1 AND id = $2 FOR UPDATE")
                .bind(owner)
                .bind(id.to_string())
                .fetch_one(self.connection())
                .await?;
        row.try_into()
    }

    /// Execs of a session that fit, newest first, older than `before` if given.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_execs(
        &mut self,
        session_id: SessionId,
        filter: ExecFilter,
        before: Option<ExecId>,
        limit: i64,
    ) -> Result<Vec<Exec>, StoreError> {
        // A statement for each set of filters: one with `OR … IS NULL` would use no index.
        let mut query = QueryBuilder::new("SELECT * FROM execs WHERE tenant_id = ");
        query.push_bind(self.owner.clone());
        query.push(" AND session_id = ").push_bind(session_id.to_string());
        // Ids sort by the time of their making; all of them are below the default.
        let before = before.map_or_else(|| "exf".to_owned(), |id| id.to_string());
        query.push(" AND id < ").push_bind(before);
        if let Some(state) = filter.state {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        if let Some(background) = filter.background {
            query.push(" AND background = ").push_bind(background);
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        let rows: Vec<Row> = query.build_query_as().fetch_all(self.connection()).await?;
        rows.into_iter().map(Exec::try_from).collect()
    }
}
