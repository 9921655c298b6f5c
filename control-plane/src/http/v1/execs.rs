//! `/v1/sessions/{id}/execs` and `/v1/execs`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::access::Operation;
use domain::exec::ExecState;
use domain::ids::{ApprovalId, ExecId, SessionId, TurnId};
use domain::sandbox::SandboxRef;
use protocol::enrolment::{Loss, LossReason};
use protocol::exec::ExecKind;
use protocol::init::{Stream, TerminalSize};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, AppError, Caller, SubmitExec, explain_waiting};
use crate::http::ApiError;
use crate::http::json::{self, Body, Id, IdempotencyKey, Params};
use crate::http::openapi::{IdempotencyHeader, Raw};
use crate::http::page::{Page, checked_cursor, checked_limit};
use crate::store::{Exec, ExecError, ExecFilter, Scope, StoredStream};

/// Most bytes of output in one answer.
const MAX_OUTPUT_PAGE: usize = 1024 * 1024;

/// Body of `POST /v1/sessions/{id}/execs`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateExec)]
pub struct Create {
    command: String,
    cwd: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    timeout_ms: Option<u64>,
    stdin: Option<String>,
    wait_ms: Option<u64>,
    background: Option<bool>,
    stdin_open: Option<bool>,
    #[serde(default, deserialize_with = "json::optional_object")]
    tty: Option<TerminalSize>,
}

/// An exec as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Exec)]
pub struct View {
    exec_id: ExecId,
    session_id: SessionId,
    turn_id: Option<TurnId>,
    state: ExecState,
    kind: ExecKind,
    command: String,
    cwd: String,
    background: bool,
    stdin_open: bool,
    tty: Option<TerminalSize>,
    /// Processes that it left behind, which were ended with it.
    survivors: u32,
    exit_code: Option<i32>,
    signal: Option<i32>,
    oom_killed: bool,
    timed_out: bool,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
    duration_ms: Option<u64>,
    sandbox: Option<SandboxRef>,
    decision: Option<DecisionView>,
    approval_id: Option<ApprovalId>,
    waiting_reason: Option<String>,
    error: Option<ExecError>,
    /// Empty until the exec is over.
    stdout: StreamView,
    stderr: StreamView,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Decision)]
struct DecisionView {
    outcome: &'static str,
    rules: Vec<String>,
    reasons: Vec<String>,
    policy_version: i64,
    decided_by: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OutputSummary)]
struct StreamView {
    /// All that was printed.
    bytes_total: u64,
    /// Bytes from the beginning on that are kept and at `/output`: at most 64 MiB.
    bytes_stored: u64,
    head: String,
    tail: String,
    /// Whether `head` and `tail` are not all of it.
    truncated: bool,
    /// What of it will never be at `/output`, where something was lost on the way.
    lost: Option<Loss>,
    /// Of the bytes that are kept, in hex.
    sha256: String,
}

impl StreamView {
    fn new(stream: Option<StoredStream>, lost: Option<Loss>) -> Self {
        let stream = stream.unwrap_or_default();
        Self {
            lost,
            truncated: stream.is_truncated(),
            bytes_total: stream.bytes_total,
            bytes_stored: stream.bytes_stored,
            // For people; the exact bytes are at `/output`.
            head: String::from_utf8_lossy(&stream.head.0).into_owned(),
            tail: String::from_utf8_lossy(&stream.tail.0).into_owned(),
            sha256: stream.sha256,
        }
    }
}

impl From<Exec> for View {
    fn from(exec: Exec) -> Self {
        let [stdout_lost, stderr_lost] = exec.lost;
        let decision = exec.decision.map(|recorded| DecisionView {
            outcome: recorded.decision.outcome.as_str(),
            rules: recorded.decision.rules,
            reasons: recorded.decision.reasons,
            policy_version: recorded.policy_version,
            decided_by: recorded.decided_by,
        });
        Self {
            exec_id: exec.id,
            session_id: exec.session_id,
            turn_id: exec.turn_id,
            state: exec.state,
            kind: exec.kind,
            command: exec.command,
            cwd: exec.cwd,
            background: exec.background,
            stdin_open: exec.stdin_open,
            tty: exec.terminal,
            survivors: exec.survivors,
            exit_code: exec.exit_code,
            signal: exec.signal,
            oom_killed: exec.oom_killed,
            timed_out: exec.state == ExecState::TimedOut,
            created_at: exec.created_at,
            started_at: exec.started_at,
            finished_at: exec.finished_at,
            duration_ms: exec.duration_ms,
            sandbox: exec.sandbox,
            decision,
            approval_id: exec.approval_id,
            waiting_reason: exec.waiting_reason,
            error: exec.error,
            stdout: StreamView::new(exec.stdout, stdout_lost),
            stderr: StreamView::new(exec.stderr, stderr_lost),
        }
    }
}

/// Posts a command.
#[utoipa::path(
    post, path = "/sessions/{id}/execs", operation_id = "create_exec", tag = "execs",
    security(("token" = ["work"])),
    params(("id" = SessionId, Path), IdempotencyHeader),
    request_body = Create,
    responses((status = 201, body = View)),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Id(session_id): Id<SessionId>,
    IdempotencyKey(key): IdempotencyKey,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let in_background = body.background.unwrap_or(false);
    let request = SubmitExec {
        command: body.command,
        cwd: body.cwd,
        env: body.env,
        stdin: body.stdin,
        stdin_open: body.stdin_open.unwrap_or(body.tty.is_some()),
        terminal: body.tty,
        background: in_background,
        timeout_ms: body.timeout_ms,
        wait_ms: body.wait_ms.filter(|_| !in_background).unwrap_or(0),
        idempotency_key: key,
    };
    let submitted = app.submit_exec(&caller, session_id, &request).await?;
    if let Some(error) = submitted.exec.error.as_ref().filter(|error| error.code == "cwd_missing") {
        let detail = format!("{}; exec {}", error.message, submitted.exec.id);
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "cwd_missing", detail));
    }
    Ok((StatusCode::CREATED, Json(submitted.exec.into())))
}

/// Query string of `GET /v1/sessions/{id}/execs`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    cursor: Option<String>,
    limit: Option<i64>,
    state: Option<String>,
    background: Option<bool>,
}

/// Lists a session's execs, newest first.
#[utoipa::path(
    get, path = "/sessions/{id}/execs", operation_id = "list_execs", tag = "execs",
    security(("token" = ["read_work"])),
    params(("id" = SessionId, Path), ListParams),
    responses((status = 200, body = Page<View>)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Id(session_id): Id<SessionId>,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<View>>, ApiError> {
    let limit = checked_limit(params.limit)?;
    let before = checked_cursor(params.cursor.as_ref())?;
    let state = params.state.as_deref().map(checked_state).transpose()?;
    let filter = ExecFilter { state, background: params.background };
    let mut scope = caller.open(&app, Operation::ReadWork).await?;
    scope.get_session(session_id).await.map_err(AppError::of("session"))?;
    let mut execs =
        scope.list_execs(session_id, filter, before, limit).await.map_err(AppError::from)?;
    explain_waiting(&mut scope, &mut execs).await.map_err(AppError::from)?;
    let views = execs.into_iter().map(View::from).collect();
    Ok(Json(Page::new(views, limit, |view| view.exec_id.to_string())))
}

fn checked_state(name: &str) -> Result<ExecState, ApiError> {
    ExecState::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = ExecState::ALL.into_iter().map(ExecState::as_str).collect();
        let detail = format!("state must be one of {}", names.join(", "));
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_state", detail)
    })
}

/// Query string of `GET /v1/execs/{id}`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShowParams {
    #[serde(default)]
    wait_ms: u64,
}

/// Shows an exec, as soon as it is over or the time to wait is.
#[utoipa::path(
    get, path = "/execs/{id}", operation_id = "get_exec", tag = "execs",
    security(("token" = ["read_work"])),
    params(("id" = ExecId, Path), ShowParams),
    responses((status = 200, body = View)),
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ExecId>,
    Params(params): Params<ShowParams>,
) -> Result<Json<View>, ApiError> {
    Ok(Json(app.wait_for_exec(&caller, id, params.wait_ms).await?.into()))
}

/// Calls off an exec.
#[utoipa::path(
    post, path = "/execs/{id}/cancel", operation_id = "cancel_exec", tag = "execs",
    security(("token" = ["work"])),
    params(("id" = ExecId, Path)),
    responses((status = 200, body = View)),
)]
pub async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ExecId>,
) -> Result<Json<View>, ApiError> {
    Ok(Json(app.cancel_exec(&caller, id).await?.into()))
}

/// Query string of `GET /v1/execs/{id}/output`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OutputParams {
    stream: Option<String>,
    #[serde(default)]
    offset: u64,
    limit: Option<usize>,
}

/// Raw bytes of one stream, as far as they have arrived.
#[utoipa::path(
    get, path = "/execs/{id}/output", operation_id = "read_exec_output", tag = "execs",
    security(("token" = ["read_work"])),
    params(("id" = ExecId, Path), OutputParams),
    responses((status = 200, body = Raw, content_type = "application/octet-stream")),
)]
pub async fn output(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ExecId>,
    Params(params): Params<OutputParams>,
) -> Result<Response, ApiError> {
    let stream = checked_stream(params.stream.as_deref().unwrap_or("stdout"))?;
    let limit = params.limit.unwrap_or(64 * 1024).min(MAX_OUTPUT_PAGE);
    if limit == 0 {
        let detail = format!("limit must be between 1 and {MAX_OUTPUT_PAGE}");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_limit", detail));
    }
    let mut scope = caller.open(&app, Operation::ReadWork).await?;
    let exec = scope.get_exec(id).await.map_err(AppError::of("exec"))?;
    let slice =
        scope.read_output(id, stream, params.offset, limit).await.map_err(AppError::from)?;
    let summary = match stream {
        Stream::Stdout => &exec.stdout,
        Stream::Stderr => &exec.stderr,
    };
    // Complete: the exec is over and everything that will ever be stored is.
    let wanted = summary.as_ref().map_or(0, |summary| summary.bytes_stored);
    let complete = exec.state.is_terminal() && slice.stored >= wanted;
    let lost = if complete { None } else { find_loss(&mut scope, &exec, stream).await? };
    if params.offset > slice.stored.max(wanted) && exec.state.is_terminal() {
        let detail =
            format!("offset is past the end of the stream, which is {}", slice.stored.max(wanted));
        return Err(ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "offset_past_end", detail));
    }
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
        ("x-output-total", slice.stored.max(wanted).to_string()),
        ("x-output-complete", complete.to_string()),
    ];
    let dropped = summary.as_ref().map_or(0, StoredStream::bytes_dropped);
    let dropped = (dropped > 0).then(|| [("x-output-dropped", dropped.to_string())]);
    // Nothing will ever come after what is stored.
    let lost = lost.map(|reason| {
        [
            ("x-output-lost", reason.as_str().to_owned()),
            ("x-output-lost-from", slice.stored.to_string()),
        ]
    });
    Ok((headers, lost, dropped, slice.bytes).into_response())
}

/// Why the rest of a stream will never come, if it will not.
async fn find_loss(
    scope: &mut Scope,
    exec: &Exec,
    stream: Stream,
) -> Result<Option<LossReason>, ApiError> {
    if let Some(loss) = exec.lost[stream.index()] {
        return Ok(Some(loss.reason));
    }
    if !exec.state.is_terminal() {
        return Ok(None);
    }
    // Nobody is left who could bring it.
    let has_moved = scope.has_moved_away(exec.id).await.map_err(AppError::from)?;
    Ok(has_moved.then_some(LossReason::Moved))
}

/// The stream with this name.
///
/// # Errors
/// When there is none.
pub fn checked_stream(name: &str) -> Result<Stream, ApiError> {
    Stream::BOTH.into_iter().find(|stream| stream.as_str() == name).ok_or_else(|| {
        let detail = "stream must be stdout or stderr";
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_stream", detail)
    })
}
