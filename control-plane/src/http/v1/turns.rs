//! `/v1/sessions/{id}/turns` and `/v1/turns`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::ids::{SessionId, TurnId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, Caller};
use crate::http::ApiError;
use crate::http::json::{Body, Id, IdempotencyKey};
use crate::http::openapi::IdempotencyHeader;
use crate::store::Turn;

/// Body of `POST /v1/sessions/{id}/turns`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateTurn)]
pub struct Create {
    input: String,
}

/// A turn as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Turn)]
pub struct View {
    turn_id: TurnId,
    session_id: SessionId,
    state: String,
    input: String,
    answer: Option<String>,
    error: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

impl From<Turn> for View {
    fn from(turn: Turn) -> Self {
        Self {
            turn_id: turn.id,
            session_id: turn.session_id,
            state: turn.state,
            input: turn.input,
            answer: turn.answer,
            error: turn.error,
            created_at: turn.created_at,
            finished_at: turn.finished_at,
        }
    }
}

/// Posts a user's message.
#[utoipa::path(
    post, path = "/sessions/{id}/turns", operation_id = "create_turn", tag = "turns",
    security(("token" = ["work"])),
    params(("id" = SessionId, Path), IdempotencyHeader),
    request_body = Create,
    responses((status = 201, body = View)),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Id(session_id): Id<SessionId>,
    IdempotencyKey(key): IdempotencyKey,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let turn = app.submit_turn(&caller, session_id, &body.input, key.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(turn.into())))
}

/// Shows a turn.
#[utoipa::path(
    get, path = "/turns/{id}", operation_id = "get_turn", tag = "turns",
    security(("token" = ["read_work"])),
    params(("id" = TurnId, Path)),
    responses((status = 200, body = View)),
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<TurnId>,
) -> Result<Json<View>, ApiError> {
    Ok(Json(app.get_turn(&caller, id).await?.into()))
}
