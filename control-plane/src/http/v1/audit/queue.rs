//! `/v1/audit/queue`: execs that were drawn for review and wait for it.

use axum::Json;
use axum::extract::State;
use domain::exec::ExecState;
use domain::ids::{ExecId, SessionId, TokenId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, Caller};
use crate::http::ApiError;
use crate::http::json::Params;
use crate::http::page::{Page, checked_cursor, checked_limit};
use crate::store::{Sample, SampleOrder};

/// Query string of `GET /v1/audit/queue`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    #[param(inline)]
    order: Option<Order>,
    cursor: Option<String>,
    limit: Option<i64>,
}

#[derive(Deserialize, Default, Clone, Copy, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// The longest waiting first.
    #[default]
    Oldest,
    /// The shortest waiting first.
    Newest,
}

/// An exec that waits for its review.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditSample)]
pub struct View {
    /// The audit event to review.
    seq: i64,
    exec_id: ExecId,
    session_id: SessionId,
    state: ExecState,
    command: String,
    cwd: String,
    /// The token that asked.
    requested_by: TokenId,
    /// The rules of the policy that allowed it.
    rules: Vec<String>,
    policy_version: i64,
    /// The sampling rule that drew it.
    sampled_by: String,
    #[serde(with = "time::serde::rfc3339")]
    sampled_at: OffsetDateTime,
}

impl From<Sample> for View {
    fn from(sample: Sample) -> Self {
        Self {
            seq: sample.seq,
            exec_id: sample.exec_id,
            session_id: sample.session_id,
            state: sample.state,
            command: sample.command,
            cwd: sample.cwd,
            requested_by: sample.requested_by,
            rules: sample.decision.decision.rules,
            policy_version: sample.decision.policy_version,
            sampled_by: sample.rule,
            sampled_at: sample.sampled_at,
        }
    }
}

/// Lists what waits for a review, the longest waiting first.
#[utoipa::path(
    get, path = "/audit/queue", operation_id = "list_audit_queue", tag = "audit",
    security(("token" = ["read_audit"])),
    params(ListParams),
    responses((status = 200, body = Page<View>)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<View>>, ApiError> {
    let limit = checked_limit(params.limit)?;
    let cursor = checked_cursor(params.cursor.as_ref())?;
    let order = match params.order.unwrap_or_default() {
        Order::Oldest => SampleOrder::OldestFirst(cursor),
        Order::Newest => SampleOrder::NewestFirst(cursor),
    };
    let samples = app.list_review_queue(&caller, order, limit).await?;
    let views = samples.into_iter().map(View::from).collect();
    Ok(Json(Page::new(views, limit, |view: &View| view.exec_id.to_string())))
}
