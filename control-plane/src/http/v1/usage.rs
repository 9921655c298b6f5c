//! `/v1/usage` and `/v1/tenants/{id}/quota`.

use axum::Json;
use axum::extract::State;
use domain::ids::TenantId;
use domain::quota::{Quota, Usage};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, Caller};
use crate::http::ApiError;
use crate::http::json::{Body, Id};

/// What a tenant may use and what it uses.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaAndUsage)]
pub struct View {
    quota: Quota,
    used: Usage,
}

/// Shows what the tenant may use and what it uses.
#[utoipa::path(
    get, path = "/usage", operation_id = "get_usage", tag = "usage",
    security(("token" = ["read_work"])),
    responses((status = 200, body = View)),
)]
pub async fn show(State(app): State<App>, caller: Caller) -> Result<Json<View>, ApiError> {
    let (quota, used) = app.get_usage(&caller).await?;
    Ok(Json(View { quota, used }))
}

/// Sets a tenant's quota; what is left out gets its default.
#[utoipa::path(
    put, path = "/tenants/{id}/quota", operation_id = "set_quota", tag = "tenants",
    security(("token" = ["manage_tenants"])),
    params(("id" = TenantId, Path)),
    request_body = Quota,
    responses((status = 200, body = Quota)),
)]
pub async fn set(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Body(quota): Body<Quota>,
) -> Result<Json<Quota>, ApiError> {
    app.set_quota(&caller, id, &quota).await?;
    Ok(Json(quota))
}
