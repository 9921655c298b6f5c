//! `/v1/executors`: enrolment, reports of running commands, and the list.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use domain::ids::{ExecId, ExecutorId};
use protocol::enrolment::{EnrolRequest, Enrolment, LossReport, StartedReport};
use protocol::exec::ToolReply;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::execs::checked_stream;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, Caller, Reporter};
use crate::http::ApiError;
use crate::http::json::{Body, Id, Params, unreadable};
use crate::http::openapi::{Raw, ReporterHeaders};
use crate::http::page::{Page, PageParams, checked_cursor, checked_limit};

/// An executor as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Executor)]
pub struct View {
    executor_id: ExecutorId,
    version: String,
    host: String,
    image_digest: String,
    /// How well it isolates, from 0 to 3.
    isolation_tier: Option<u8>,
    /// Processors of its host, for all sandboxes together.
    capacity: Option<u32>,
    state: ExecutorState,
    #[serde(with = "time::serde::rfc3339")]
    last_seen_at: OffsetDateTime,
}

/// Whether an executor can be counted on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ExecutorState {
    /// It was heard of within the last 15 seconds.
    Live,
    /// It was not.
    Lost,
}

/// Enrols an executor.
#[utoipa::path(
    post, path = "/executors", operation_id = "enrol_executor", tag = "executors",
    security(("token" = ["execute"])),
    request_body = EnrolRequest,
    responses((status = 200, body = Enrolment)),
)]
pub async fn enrol(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<EnrolRequest>,
) -> Result<Json<Enrolment>, ApiError> {
    Ok(Json(app.enrol(&caller, &body).await?))
}

/// Lists the tenant's executors.
#[utoipa::path(
    get, path = "/executors", operation_id = "list_executors", tag = "executors",
    security(("token" = ["read_work"])),
    params(PageParams),
    responses((status = 200, body = Page<View>)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<View>>, ApiError> {
    let limit = checked_limit(params.limit)?;
    let after = checked_cursor(params.cursor.as_ref())?;
    let executors = app.list_executors(&caller, after, limit).await?;
    let view = |executor: crate::store::Executor| View {
        executor_id: executor.id,
        version: executor.version,
        host: executor.host,
        image_digest: executor.image_digest,
        isolation_tier: executor.isolation_tier,
        capacity: executor.capacity,
        state: if executor.is_live { ExecutorState::Live } else { ExecutorState::Lost },
        last_seen_at: executor.last_seen_at,
    };
    let views = executors.into_iter().map(view).collect();
    Ok(Json(Page::new(views, limit, |view: &View| view.executor_id.to_string())))
}

/// An executor says that it lives, every five seconds: its own word, which an open connection is not.
#[utoipa::path(
    post, path = "/executors/heartbeat", operation_id = "report_alive", tag = "executors",
    security(("token" = ["execute"])),
    params(ReporterHeaders),
    responses((status = 204)),
)]
pub async fn alive(
    State(app): State<App>,
    caller: Caller,
    reporter: Reporter,
) -> Result<StatusCode, ApiError> {
    app.touch_executor(&caller, reporter).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A command was started and takes a while.
#[utoipa::path(
    post, path = "/executors/execs/{id}/started", operation_id = "report_exec_started", tag = "executors",
    security(("token" = ["execute"])),
    params(("id" = ExecId, Path), ReporterHeaders),
    request_body = StartedReport,
    responses((status = 204)),
)]
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

/// What an executor says of an exec that ended, sealed with the tenant's key.
#[derive(ToSchema)]
#[schema(as = ExecReport)]
#[allow(dead_code)] // described here; read as `ToolReply`
struct Report {
    report: SealedReport,
}

/// A value that only holders of the tenant's key can read.
#[derive(ToSchema)]
#[allow(dead_code)]
struct SealedReport {
    tenant_id: domain::ids::TenantId,
    /// AES-256-GCM nonce.
    nonce: protocol::binary::Binary,
    /// Ciphertext with its tag.
    ciphertext: protocol::binary::Binary,
}

/// An exec ended.
#[utoipa::path(
    post, path = "/executors/execs/{id}/result", operation_id = "report_exec_result", tag = "executors",
    security(("token" = ["execute"])),
    params(("id" = ExecId, Path), ReporterHeaders),
    request_body = Report,
    responses((status = 204)),
)]
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

/// How much of a stream is stored.
#[derive(Serialize, ToSchema)]
pub struct Stored {
    total: u64,
}

/// Query string of `POST /v1/executors/execs/{id}/output`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OutputParams {
    stream: String,
    offset: u64,
}

/// Takes a piece of output; the answer says how much there is now.
#[utoipa::path(
    post, path = "/executors/execs/{id}/output", operation_id = "report_exec_output", tag = "executors",
    security(("token" = ["execute"])),
    params(("id" = ExecId, Path), ReporterHeaders, OutputParams),
    request_body(content = Raw, content_type = "application/octet-stream"),
    responses((status = 200, body = Stored)),
)]
pub async fn output(
    State(app): State<App>,
    caller: Caller,
    reporter: Reporter,
    Id(exec_id): Id<ExecId>,
    Params(params): Params<OutputParams>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Stored>, ApiError> {
    let bytes = body.map_err(unreadable)?;
    let stream = checked_stream(&params.stream)?;
    let total =
        app.append_output(&caller, reporter, exec_id, stream, params.offset, &bytes).await?;
    Ok(Json(Stored { total }))
}

/// The rest of a stream will never come.
#[utoipa::path(
    post, path = "/executors/execs/{id}/lost", operation_id = "report_exec_loss", tag = "executors",
    security(("token" = ["execute"])),
    params(("id" = ExecId, Path), ReporterHeaders),
    request_body = LossReport,
    responses((status = 204)),
)]
pub async fn lost(
    State(app): State<App>,
    caller: Caller,
    reporter: Reporter,
    Id(exec_id): Id<ExecId>,
    Body(body): Body<LossReport>,
) -> Result<StatusCode, ApiError> {
    let stream = checked_stream(&body.stream)?;
    app.lose_output(&caller, reporter, exec_id, stream, body.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}
