//! `/v1/webhooks`: calls to a tenant's own server.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::ids::WebhookId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, Caller};
use crate::http::ApiError;
use crate::http::json::{Body, Id, IdempotencyKey, Params};
use crate::http::openapi::IdempotencyHeader;
use crate::http::page::{Page, PageParams, checked_cursor, checked_limit};
use crate::store::Webhook;

/// Body of `POST /v1/webhooks`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateWebhook)]
pub struct Create {
    /// Where calls go: `https://` and a public address.
    url: String,
    /// Some of `approval.pending`, `approval.voted`, `approval.decided` and `session.closed`.
    events: Vec<String>,
}

/// A webhook as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub struct View {
    webhook_id: WebhookId,
    url: String,
    events: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// What calls are signed with; shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Webhook> for View {
    fn from(webhook: Webhook) -> Self {
        Self {
            webhook_id: webhook.id,
            url: webhook.url,
            events: webhook.events,
            created_at: webhook.created_at,
            secret: None,
        }
    }
}

/// Makes a webhook; the answer shows its secret, to this request and its repeats under the
/// same key only.
#[utoipa::path(
    post, path = "/webhooks", operation_id = "create_webhook", tag = "webhooks",
    security(("token" = ["manage_webhooks"])),
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
    let created = app.create_webhook(&caller, &body.url, &body.events, key.as_deref()).await?;
    let view = View {
        webhook_id: created.id,
        url: created.url,
        events: created.events,
        created_at: created.created_at,
        secret: Some(created.secret),
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Lists the tenant's webhooks.
#[utoipa::path(
    get, path = "/webhooks", operation_id = "list_webhooks", tag = "webhooks",
    security(("token" = ["manage_webhooks"])),
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
    let webhooks = app.list_webhooks(&caller, after, limit).await?;
    let views = webhooks.into_iter().map(View::from).collect();
    Ok(Json(Page::new(views, limit, |view: &View| view.webhook_id.to_string())))
}

/// Deletes a webhook.
#[utoipa::path(
    delete, path = "/webhooks/{id}", operation_id = "delete_webhook", tag = "webhooks",
    security(("token" = ["manage_webhooks"])),
    params(("id" = WebhookId, Path)),
    responses((status = 204)),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<WebhookId>,
) -> Result<StatusCode, ApiError> {
    app.delete_webhook(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
