//! `/v1/audit/sampling`: which of the execs that policy allows by itself are put before a reviewer.

use axum::Json;
use axum::extract::State;
use domain::sampling::{Sampling, SamplingRule};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{Active, App, Caller};
use crate::http::ApiError;
use crate::http::json::{self, Body};

/// Body of `PUT /v1/audit/sampling`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PutAuditSampling)]
pub struct Put {
    /// All of them, in order; none ends sampling.
    #[serde(deserialize_with = "json::objects")]
    rules: Vec<SamplingRule>,
    /// The version that it is a change of.
    expected_version: Option<i64>,
}

/// Sampling rules as callers see them.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditSampling)]
pub struct View {
    /// 0 where nobody has said anything.
    version: i64,
    rules: Vec<SamplingRule>,
    author: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    created_at: Option<OffsetDateTime>,
}

impl From<Active<Sampling>> for View {
    fn from(active: Active<Sampling>) -> Self {
        let (author, created_at) = active.by.unzip();
        Self { version: active.version, rules: active.value.rules, author, created_at }
    }
}

/// Shows the sampling rules.
#[utoipa::path(
    get, path = "/audit/sampling", operation_id = "get_audit_sampling", tag = "audit",
    security(("token" = ["read_audit"])),
    responses((status = 200, body = View)),
)]
pub async fn show(State(app): State<App>, caller: Caller) -> Result<Json<View>, ApiError> {
    Ok(Json(app.get_sampling(&caller).await?.into()))
}

/// Puts all sampling rules; they apply to what is decided from now on.
#[utoipa::path(
    put, path = "/audit/sampling", operation_id = "put_audit_sampling", tag = "audit",
    security(("token" = ["manage_audit"])),
    request_body = Put,
    responses((status = 200, body = View)),
)]
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Put>,
) -> Result<Json<View>, ApiError> {
    let sampling = Sampling { rules: body.rules };
    Ok(Json(app.put_sampling(&caller, &sampling, body.expected_version).await?.into()))
}
