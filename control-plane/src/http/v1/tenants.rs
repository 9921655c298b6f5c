//! `/v1/tenants`: the platform's list of tenants.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::ids::{TenantId, TokenId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, Caller};
use crate::http::ApiError;
use crate::http::json::{Body, IdempotencyKey, Params};
use crate::http::openapi::IdempotencyHeader;
use crate::http::page::{Page, PageParams, checked_cursor, checked_limit};
use crate::store::Tenant;

/// Body of `POST /v1/tenants`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateTenant)]
pub struct Create {
    name: String,
}

/// A tenant as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenant)]
pub struct View {
    tenant_id: TenantId,
    name: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_token: Option<OwnerToken>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OwnerToken)]
struct OwnerToken {
    token_id: TokenId,
    token: String,
}

impl From<Tenant> for View {
    fn from(tenant: Tenant) -> Self {
        Self {
            tenant_id: tenant.id,
            name: tenant.name,
            created_at: tenant.created_at,
            owner_token: None,
        }
    }
}

/// Makes a tenant; the answer shows its first owner token, to this request and its repeats
/// under the same key only.
#[utoipa::path(
    post, path = "/tenants", operation_id = "create_tenant", tag = "tenants",
    security(("token" = ["manage_tenants"])),
    params(IdempotencyHeader),
    request_body = Create,
    responses((status = 201, body = View)),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let created = app.create_tenant(&caller, &body.name, key.as_deref()).await?;
    let owner_token = OwnerToken { token_id: created.owner_token_id, token: created.owner_token };
    let view = View {
        tenant_id: created.id,
        name: created.name,
        created_at: created.created_at,
        owner_token: Some(owner_token),
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Lists all tenants.
#[utoipa::path(
    get, path = "/tenants", operation_id = "list_tenants", tag = "tenants",
    security(("token" = ["manage_tenants"])),
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
    let tenants = app.list_tenants(&caller, after, limit).await?;
    let views = tenants.into_iter().map(View::from).collect();
    Ok(Json(Page::new(views, limit, |view: &View| view.tenant_id.to_string())))
}
