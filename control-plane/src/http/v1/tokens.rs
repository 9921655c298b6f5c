//! `/v1/tokens`: a tenant's tokens, managed by its owners.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::ids::TokenId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::app::{App, Caller, CreateToken};
use crate::http::ApiError;
use crate::http::json::{Body, Id};
use crate::http::page::Page;

/// Body of `POST /v1/tokens`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    name: String,
    role: String,
    expires_in_s: Option<i64>,
}

/// A token that was made, with its secret.
#[derive(Serialize)]
pub struct Created {
    token_id: TokenId,
    token: String,
    name: String,
    role: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// A token without its secret.
#[derive(Serialize)]
pub struct View {
    token_id: TokenId,
    name: String,
    role: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
}

/// Makes a token; the answer shows it, once.
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    let request = CreateToken { name: body.name, role: body.role, expires_in_s: body.expires_in_s };
    let created = app.create_token(&caller, &request).await?;
    let view = Created {
        token_id: created.issued.id,
        token: created.issued.secret,
        name: request.name,
        role: created.role.as_str(),
        expires_at: created.issued.expires_at,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Lists the tenant's tokens.
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Page<View>>, ApiError> {
    let tokens = app.list_tokens(&caller).await?;
    let view = |token: crate::store::Token| View {
        token_id: token.id,
        name: token.name,
        role: token.role.as_str(),
        created_at: token.created_at,
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
    };
    Ok(Json(Page::whole(tokens.into_iter().map(view).collect())))
}

/// Revokes a token.
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, ApiError> {
    app.revoke_token(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
