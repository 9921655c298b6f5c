//! What operators and their machines ask: is it alive, is it ready, and if not, what is missing.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, Readiness as Looked};

/// How long an answer serves others.
const FRESH: Duration = Duration::from_millis(250);

/// What an instance lacks to do its work.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    /// One sentence each; empty when it is ready.
    missing: Vec<String>,
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

/// Ready when the database and Temporal answer; otherwise names what does not. Anybody may ask, as
/// often as they like, so one answer serves all who ask within a quarter of a second.
#[utoipa::path(
    get, path = "/readyz", operation_id = "get_readiness", tag = "operations",
    security(()),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)),
)]
pub async fn readyz(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let mut last = app.readiness.lock().await;
    let missing = match last.as_ref() {
        Some(looked) if looked.at.elapsed() < FRESH => looked.missing.clone(),
        _ => {
            let missing = look(&app).await;
            *last = Some(Looked { at: Instant::now(), missing: missing.clone() });
            missing
        }
    };
    drop(last);
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { missing }))
}

async fn look(app: &App) -> Vec<String> {
    let (schema, temporal) = tokio::join!(app.store.find_schema_fault(), app.dispatcher.is_ready());
    let mut missing = Vec::new();
    match schema {
        Err(_) => missing.push("postgres: start it or check DATABASE_URL".into()),
        Ok(Some(fault)) => missing.push(fault.to_string()),
        Ok(None) if !app.verifier.is_ready() => {
            missing.push("revocations: they could not be read from Postgres yet".into());
        }
        Ok(None) => {}
    }
    if app.streams.is_stopping() {
        missing.push("nothing, but this instance is stopping: use another one".into());
    }
    if !temporal {
        missing.push("temporal: start it or check TEMPORAL_ADDRESS".into());
    }
    missing
}
