//! `/v1/sessions`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::access::Operation;
use domain::ids::SessionId;
use domain::limits::SandboxLimits;
use domain::sandbox::SandboxRef;
use domain::session::SessionState;
use policy::Mode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, AppError, Caller, CreateSession};
use crate::http::ApiError;
use crate::http::json::{self, Body, Id, IdempotencyKey, Params};
use crate::http::openapi::IdempotencyHeader;
use crate::http::page::{Page, PageParams, checked_cursor, checked_limit};
use crate::store::Session;

/// Body of `POST /v1/sessions`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateSession)]
pub struct Create {
    name: Option<String>,
    image: Option<String>,
    #[serde(default, deserialize_with = "json::object")]
    limits: SandboxLimits,
    model: Option<String>,
    approval_mode: Option<String>,
    environment: Option<String>,
}

/// A session as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub struct View {
    session_id: SessionId,
    name: String,
    state: SessionState,
    model: Option<String>,
    #[schema(value_type = String)]
    approval_mode: Mode,
    environment: String,
    limits: SandboxLimits,
    sandbox: Option<SandboxRef>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    closed_at: Option<OffsetDateTime>,
}

impl From<Session> for View {
    fn from(session: Session) -> Self {
        Self {
            session_id: session.id,
            name: session.name,
            state: session.state,
            model: session.model,
            approval_mode: session.approval_mode,
            environment: session.environment,
            limits: session.limits,
            sandbox: session.sandbox,
            created_at: session.created_at,
            closed_at: session.closed_at,
        }
    }
}

/// Makes a session.
#[utoipa::path(
    post, path = "/sessions", operation_id = "create_session", tag = "sessions",
    security(("token" = ["work"])),
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
    let request = CreateSession {
        name: body.name,
        image: body.image,
        limits: body.limits,
        model: body.model,
        approval_mode: body.approval_mode,
        environment: body.environment,
    };
    let session = app.create_session(&caller, &request, key.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(session.into())))
}

/// Lists sessions, newest first.
#[utoipa::path(
    get, path = "/sessions", operation_id = "list_sessions", tag = "sessions",
    security(("token" = ["read_work"])),
    params(PageParams),
    responses((status = 200, body = Page<View>)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<View>>, ApiError> {
    let limit = checked_limit(params.limit)?;
    let before = checked_cursor(params.cursor.as_ref())?;
    let mut scope = caller.open(&app, Operation::ReadWork).await?;
    let sessions = scope.list_sessions(before, limit).await.map_err(AppError::from)?;
    let views = sessions.into_iter().map(View::from).collect();
    Ok(Json(Page::new(views, limit, |view| view.session_id.to_string())))
}

/// Shows a session.
#[utoipa::path(
    get, path = "/sessions/{id}", operation_id = "get_session", tag = "sessions",
    security(("token" = ["read_work"])),
    params(("id" = SessionId, Path)),
    responses((status = 200, body = View)),
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<SessionId>,
) -> Result<Json<View>, ApiError> {
    let mut scope = caller.open(&app, Operation::ReadWork).await?;
    let session = scope.get_session(id).await.map_err(AppError::of("session"))?;
    Ok(Json(session.into()))
}

/// Asks a session to end.
#[utoipa::path(
    delete, path = "/sessions/{id}", operation_id = "delete_session", tag = "sessions",
    security(("token" = ["work"])),
    params(("id" = SessionId, Path)),
    responses((status = 202)),
)]
pub async fn close(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<SessionId>,
) -> Result<StatusCode, ApiError> {
    app.close_session(&caller, id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The same, by another name.
#[utoipa::path(
    post, path = "/sessions/{id}/shutdown", operation_id = "shutdown_session", tag = "sessions",
    security(("token" = ["work"])),
    params(("id" = SessionId, Path)),
    responses((status = 202)),
)]
pub async fn shutdown(
    state: State<App>,
    caller: Caller,
    id: Id<SessionId>,
) -> Result<StatusCode, ApiError> {
    close(state, caller, id).await
}

/// Interrupts the session's running turn.
#[utoipa::path(
    post, path = "/sessions/{id}/interrupt", operation_id = "interrupt_session", tag = "sessions",
    security(("token" = ["work"])),
    params(("id" = SessionId, Path)),
    responses((status = 202)),
)]
pub async fn interrupt(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<SessionId>,
) -> Result<StatusCode, ApiError> {
    app.interrupt_session(&caller, id).await?;
    Ok(StatusCode::ACCEPTED)
}
