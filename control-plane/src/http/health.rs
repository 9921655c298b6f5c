//! What operators and their machines ask: is it alive, is it ready, and if not, what is missing.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;

/// What an instance lacks to do its work.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    /// One sentence each; empty when it is ready.
    missing: Vec<&'static str>,
}

/// The process lives.
#[utoipa::path(
    get, path = "/healthz", operation_id = "get_health", tag = "operations",
    security(()),
    responses((status = 200, body = String, content_type = "text/plain")),
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready when the database and Temporal answer; otherwise names what does not.
#[utoipa::path(
    get, path = "/readyz", operation_id = "get_readiness", tag = "operations",
    security(()),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)),
)]
pub async fn readyz(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let (schema, temporal) = tokio::join!(app.store.is_migrated(), app.dispatcher.is_ready());
    let mut missing = Vec::new();
    match schema {
        Err(_) => missing.push("postgres: start it or check DATABASE_URL"),
        Ok(false) => missing.push("schema: run `bulkhead-control-plane migrate`"),
        Ok(true) if !app.verifier.is_ready() => {
            missing.push("revocations: they could not be read from Postgres yet");
        }
        Ok(true) => {}
    }
    if app.streams.is_stopping() {
        missing.push("nothing, but this instance is stopping: use another one");
    }
    if !temporal {
        missing.push("temporal: start it or check TEMPORAL_ADDRESS");
    }
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { missing }))
}
