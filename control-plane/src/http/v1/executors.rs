//! `/v1/executors`: enrolment, reports of running commands, and the list.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use domain::ids::{ExecId, ExecutorId};
use protocol::enrolment::{EnrolRequest, Enrolment, StartedReport};
use protocol::exec::ToolReply;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::execs::checked_stream;
use crate::app::{App, Caller, Reporter};
use crate::http::ApiError;
use crate::http::json::{Body, Id, Params, unreadable};
use crate::http::page::Page;

/// An executor as callers see it.
#[derive(Serialize)]
pub struct View {
    executor_id: ExecutorId,
    version: String,
    host: String,
    image_digest: String,
    #[serde(with = "time::serde::rfc3339")]
    last_seen_at: OffsetDateTime,
}

/// Enrols an executor.
pub async fn enrol(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<EnrolRequest>,
) -> Result<Json<Enrolment>, ApiError> {
    Ok(Json(app.enrol(&caller, &body).await?))
}

/// Lists the tenant's executors.
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Page<View>>, ApiError> {
    let executors = app.list_executors(&caller).await?;
    let view = |executor: crate::store::Executor| View {
        executor_id: executor.id,
        version: executor.version,
        host: executor.host,
        image_digest: executor.image_digest,
        last_seen_at: executor.last_seen_at,
    };
    Ok(Json(Page::whole(executors.into_iter().map(view).collect())))
}

/// A command was started and takes a while.
pub async fn started(
    State(app): State<App>,
    caller: Caller,
    reporter: Reporter,
    Id(exec_id): Id<ExecId>,
    Body(body): Body<StartedReport>,
) -> Result<StatusCode, ApiError> {
    app.report_started(&caller, reporter, exec_id, body.started_at_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An exec ended.
pub async fn result(
    State(app): State<App>,
    caller: Caller,
    reporter: Reporter,
    Id(exec_id): Id<ExecId>,
    Body(body): Body<ToolReply>,
) -> Result<StatusCode, ApiError> {
    app.report_result(&caller, reporter, exec_id, &body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Query string of `POST /v1/executors/execs/{id}/output`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputParams {
    stream: String,
    offset: u64,
}

/// Takes a piece of output; the answer says how much there is now.
pub async fn output(
    State(app): State<App>,
    caller: Caller,
    reporter: Reporter,
    Id(exec_id): Id<ExecId>,
    Params(params): Params<OutputParams>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let bytes = body.map_err(unreadable)?;
    let stream = checked_stream(&params.stream)?;
    let total =
        app.append_output(&caller, reporter, exec_id, stream, params.offset, &bytes).await?;
    Ok(Json(json!({ "total": total })))
}
