//! `/v1/tenants`: the platform's list of tenants.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::app::{App, Caller};
use crate::http::ApiError;
use crate::http::json::Body;
use crate::http::page::Page;
use crate::store::Tenant;

/// Body of `POST /v1/tenants`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    name: String,
}

/// A tenant as callers see it.
#[derive(Serialize)]
pub struct View {
    tenant_id: String,
    name: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_token: Option<OwnerToken>,
}

#[derive(Serialize)]
struct OwnerToken {
    token_id: String,
    token: String,
}

impl From<Tenant> for View {
    fn from(tenant: Tenant) -> Self {
        Self {
            tenant_id: tenant.id.to_string(),
            name: tenant.name,
            created_at: tenant.created_at,
            owner_token: None,
        }
    }
}

/// Makes a tenant; the answer shows its first owner token, once.
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let (tenant, token) = app.create_tenant(&caller, &body.name).await?;
    let owner_token = OwnerToken { token_id: token.id.to_string(), token: token.secret };
    let view = View { owner_token: Some(owner_token), ..tenant.into() };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Lists all tenants.
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Page<View>>, ApiError> {
    let tenants = app.list_tenants(&caller).await?;
    Ok(Json(Page::whole(tenants.into_iter().map(View::from).collect())))
}
