//! `/v1/audit/events`: the tenant's audit log, in order.

use axum::Json;
use axum::extract::State;
use domain::access::Operation;
use domain::ids::SessionId;
use protocol::grant::hex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, AppError, Caller};
use crate::http::ApiError;
use crate::http::json::Params;
use crate::http::page::{Page, checked_limit};
use crate::store::AuditRecord;

/// Query string of `GET /v1/audit/events`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Give events after this number.
    #[serde(default)]
    after: i64,
    session_id: Option<SessionId>,
    /// `next_cursor` of the page before; the same as `after`.
    cursor: Option<i64>,
    limit: Option<i64>,
}

/// An audit event as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEvent)]
pub struct View {
    seq: i64,
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    actor: String,
    token_id: Option<String>,
    address: Option<String>,
    action: String,
    object: String,
    session_id: Option<String>,
    outcome: String,
    detail: Value,
    hash: String,
}

impl From<AuditRecord> for View {
    fn from(record: AuditRecord) -> Self {
        let nanos = i128::from(record.time_us) * 1000;
        Self {
            seq: record.seq,
            time: OffsetDateTime::from_unix_timestamp_nanos(nanos)
                .unwrap_or(OffsetDateTime::UNIX_EPOCH),
            actor: record.actor,
            token_id: record.token_id,
            address: record.address,
            action: record.action,
            object: record.object,
            session_id: record.session_id,
            outcome: record.outcome,
            detail: serde_json::from_str(&record.detail).unwrap_or(Value::Null),
            hash: hex(&record.hash),
        }
    }
}

/// Lists audit events, oldest first.
#[utoipa::path(
    get, path = "/audit/events", operation_id = "list_audit_events", tag = "audit",
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
    let after = params.cursor.unwrap_or(params.after);
    let mut scope = caller.open(&app, Operation::ReadAudit).await?;
    let records =
        scope.list_audit(after, params.session_id, limit).await.map_err(AppError::from)?;
    let views = records.into_iter().map(View::from).collect();
    Ok(Json(Page::new(views, limit, |view: &View| view.seq.to_string())))
}
