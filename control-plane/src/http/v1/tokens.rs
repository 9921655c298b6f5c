//! `/v1/tokens`: a tenant's tokens, managed by its owners.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::access::Role;
use domain::ids::TokenId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, Caller, CreateToken};
use crate::http::ApiError;
use crate::http::json::{Body, Id, IdempotencyKey, Params};
use crate::http::openapi::IdempotencyHeader;
use crate::http::page::{Page, PageParams, checked_cursor, checked_limit};

/// Body of `POST /v1/tokens`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateToken)]
pub struct Create {
    name: String,
    role: String,
    expires_in_s: Option<i64>,
}

/// A token that was made, with its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedToken)]
pub struct Created {
    token_id: TokenId,
    token: String,
    name: String,
    role: Role,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// A token without its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub struct View {
    token_id: TokenId,
    name: String,
    role: Role,
    /// The token that asked for it.
    created_by: Option<TokenId>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// To the minute or so; `null` when it never was.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
}

/// Makes a token; the answer shows it, to this request and its repeats under the same key only.
#[utoipa::path(
    post, path = "/tokens", operation_id = "create_token", tag = "tokens",
    security(("token" = ["manage_tokens"])),
    params(IdempotencyHeader),
    request_body = Create,
    responses((status = 201, body = Created)),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    let request = CreateToken { name: body.name, role: body.role, expires_in_s: body.expires_in_s };
    let created = app.create_token(&caller, &request, key.as_deref()).await?;
    let view = Created {
        token_id: created.id,
        token: created.secret,
        name: request.name,
        role: created.role,
        expires_at: created.expires_at,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Lists the tenant's tokens.
#[utoipa::path(
    get, path = "/tokens", operation_id = "list_tokens", tag = "tokens",
    security(("token" = ["manage_tokens"])),
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
    let tokens = app.list_tokens(&caller, after, limit).await?;
    let view = |token: crate::store::Token| View {
        token_id: token.id,
        name: token.name,
        role: token.role,
        created_by: token.created_by,
        created_at: token.created_at,
        last_used_at: token.last_used_at,
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
    };
    let views = tokens.into_iter().map(view).collect();
    Ok(Json(Page::new(views, limit, |view: &View| view.token_id.to_string())))
}

/// Revokes a token.
#[utoipa::path(
    delete, path = "/tokens/{id}", operation_id = "revoke_token", tag = "tokens",
    security(("token" = ["manage_tokens"])),
    params(("id" = TokenId, Path)),
    responses((status = 204)),
)]
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, ApiError> {
    app.revoke_token(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
