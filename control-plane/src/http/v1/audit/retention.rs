//! `/v1/audit/retention`: for how long details of audit events stay.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{Active, App, Caller, Retention};
use crate::http::ApiError;
use crate::http::json::Body;

/// Body of `PUT /v1/audit/retention`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PutAuditRetention)]
pub struct Put {
    /// Days of 24 hours; for ever without.
    #[schema(minimum = 1, maximum = 3660)]
    days: Option<u32>,
    /// The version that it is a change of.
    expected_version: Option<i64>,
}

/// The setting as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditRetention)]
pub struct View {
    /// 0 where nobody has said anything.
    version: i64,
    /// For ever without.
    days: Option<u32>,
    author: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    created_at: Option<OffsetDateTime>,
}

impl From<Active<Retention>> for View {
    fn from(active: Active<Retention>) -> Self {
        let (author, created_at) = active.by.unzip();
        Self { version: active.version, days: active.value.days, author, created_at }
    }
}

/// Shows for how long details stay.
#[utoipa::path(
    get, path = "/audit/retention", operation_id = "get_audit_retention", tag = "audit",
    security(("token" = ["read_audit"])),
    responses((status = 200, body = View)),
)]
pub async fn show(State(app): State<App>, caller: Caller) -> Result<Json<View>, ApiError> {
    Ok(Json(app.get_retention(&caller).await?.into()))
}

/// Says for how long details stay; what is older is erased within the hour, for good.
#[utoipa::path(
    put, path = "/audit/retention", operation_id = "put_audit_retention", tag = "audit",
    security(("token" = ["manage_audit"])),
    request_body = Put,
    responses((status = 200, body = View)),
)]
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Put>,
) -> Result<Json<View>, ApiError> {
    let retention = Retention { days: body.days };
    Ok(Json(app.put_retention(&caller, retention, body.expected_version).await?.into()))
}
