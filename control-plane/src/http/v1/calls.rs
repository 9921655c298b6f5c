//! `/v1/executors/calls`: an executor's open line, and the calls that it fetches and answers.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::access::Operation;
use domain::ids::CallId;
use futures::{Stream, StreamExt};
use protocol::calls::{Call, CallReply};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::app::{App, Caller, Reporter};
use crate::calls::{Answer, Line};
use crate::http::ApiError;
use crate::http::json::Id;
use crate::http::openapi::{Raw, ReporterHeaders};

/// A call, as its executor gets it. What it is about, `protocol::calls` says.
#[derive(utoipa::ToSchema)]
#[schema(as = Call)]
#[allow(dead_code)] // described here, written from `Call`
struct CallView {
    session_id: domain::ids::SessionId,
    limits: domain::limits::SandboxLimits,
    image_digest: String,
    min_generation: u32,
    #[schema(value_type = Object)]
    what: protocol::calls::CallKind,
    timeout_ms: u64,
}

/// How often a silent line says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Longest first line of a reply, in bytes.
const MAX_REPLY_BYTES: usize = 1024 * 1024;
/// Pieces of a reply that wait for the client before the executor does.
const QUEUE: usize = 8;

struct OpenLine {
    app: App,
    caller: Caller,
    reporter: Reporter,
    line: Line,
    next_sign: Instant,
}

/// Opens an executor's line.
#[utoipa::path(
    get, path = "/executors/calls", operation_id = "open_call_line", tag = "executors",
    security(("token" = ["execute"])),
    params(ReporterHeaders),
    responses((status = 200, body = String, content_type = "application/x-ndjson")),
)]
pub async fn line(
    State(app): State<App>,
    caller: Caller,
    reporter: Reporter,
) -> Result<Response, ApiError> {
    let tenant_id = app.touch_executor(&caller, reporter).await?;
    let line = app.calls.lines().open(tenant_id, reporter.executor_id);
    let open = OpenLine { app, caller, reporter, line, next_sign: Instant::now() };
    let body = Body::from_stream(rings(open));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn rings(open: OpenLine) -> impl Stream<Item = Result<Bytes, Infallible>> {
    futures::stream::unfold(open, |mut open| async move {
        match timeout_at(open.next_sign, open.line.next()).await {
            Ok(None) => None,
            Ok(Some(ring)) => {
                let mut text = serde_json::to_vec(&ring).unwrap_or_default();
                text.push(b'\n');
                Some((Ok(Bytes::from(text)), open))
            }
            Err(_) => {
                open.next_sign = Instant::now() + KEEP_ALIVE;
                // A token that was revoked meanwhile ends the line.
                open.app.verifier.recheck(&open.caller.pass).ok()?;
                // A database that is away for a moment must not cut the line; a successor does.
                let checked = open.app.check_executor(&open.caller, open.reporter).await;
                let fenced = matches!(checked, Err(crate::app::AppError::Fenced));
                (!fenced).then_some((Ok(Bytes::from_static(b"\n")), open))
            }
        }
    })
}

fn gone() -> ApiError {
    ApiError::not_found("call")
}

/// Gives a call to its executor.
#[utoipa::path(
    get, path = "/executors/calls/{id}", operation_id = "get_call", tag = "executors",
    security(("token" = ["execute"])),
    params(("id" = CallId, Path)),
    responses((status = 200, body = CallView)),
)]
pub async fn fetch(
    State(app): State<App>,
    caller: Caller,
    Id(call_id): Id<CallId>,
) -> Result<Json<Call>, ApiError> {
    let tenant_id = caller.authorize(Operation::Execute)?;
    app.calls.waiting().fetch(call_id, tenant_id).map(Json).ok_or_else(gone)
}

/// Gives a call's body to its executor, as it comes from the client.
#[utoipa::path(
    get, path = "/executors/calls/{id}/body", operation_id = "get_call_body", tag = "executors",
    security(("token" = ["execute"])),
    params(("id" = CallId, Path)),
    responses((status = 200, body = Raw, content_type = "application/octet-stream")),
)]
pub async fn body(
    State(app): State<App>,
    caller: Caller,
    Id(call_id): Id<CallId>,
) -> Result<Response, ApiError> {
    let tenant_id = caller.authorize(Operation::Execute)?;
    let pieces = app.calls.waiting().take_body(call_id, tenant_id).ok_or_else(gone)?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Takes an executor's answer and passes what follows its first line on to the client.
#[utoipa::path(
    post, path = "/executors/calls/{id}/reply", operation_id = "reply_to_call", tag = "executors",
    security(("token" = ["execute"])),
    params(("id" = CallId, Path)),
    request_body(content = Raw, content_type = "application/octet-stream"),
    responses((status = 204)),
)]
pub async fn reply(
    State(app): State<App>,
    caller: Caller,
    Id(call_id): Id<CallId>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let tenant_id = caller.authorize(Operation::Execute)?;
    let answer = app.calls.waiting().take_answer(call_id, tenant_id).ok_or_else(gone)?;
    let mut body = request.into_body().into_data_stream();
    let (reply, rest) = read_reply(&mut body).await?;
    let (sender, mut pieces) = mpsc::channel(QUEUE);
    let stream = async_stream(move |cx| pieces.poll_recv(cx));
    if answer.send(Answer { reply, rest: Box::pin(stream) }).is_err() {
        return Err(gone());
    }
    let mut first = (!rest.is_empty()).then_some(Ok(rest));
    loop {
        let piece = match first.take() {
            Some(piece) => Some(piece),
            None => body.next().await.map(|piece| piece.map_err(std::io::Error::other)),
        };
        let Some(piece) = piece else { return Ok(StatusCode::NO_CONTENT) };
        let broken = piece.is_err();
        // A client that left takes nothing more; the executor learns it here.
        if sender.send(piece).await.is_err() {
            return Err(gone());
        }
        if broken {
            return Err(malformed());
        }
    }
}

fn async_stream<T>(
    mut poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>>,
) -> impl Stream<Item = T> {
    futures::stream::poll_fn(move |cx| poll(cx))
}

/// The reply in the first line, and the bytes that came with it.
async fn read_reply(body: &mut axum::body::BodyDataStream) -> Result<(CallReply, Bytes), ApiError> {
    let mut head = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| malformed())?;
        if let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            head.extend_from_slice(&piece[..end]);
            let reply = serde_json::from_slice(&head).map_err(|_| malformed())?;
            return Ok((reply, piece.slice(end + 1..)));
        }
        head.extend_from_slice(&piece);
        if head.len() > MAX_REPLY_BYTES {
            break;
        }
    }
    Err(malformed())
}

fn malformed() -> ApiError {
    let detail = "a reply is one line of JSON, and bytes after it";
    ApiError::new(StatusCode::BAD_REQUEST, "malformed_reply", detail)
}
