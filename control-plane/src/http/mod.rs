//! The HTTP API: extract, authorise, one call, map. No SQL, no decisions.

mod auth;
mod error;
mod json;
mod page;
mod reporter;
mod server;
mod v1;

pub use auth::bearer;
pub use error::ApiError;
pub use server::serve;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domain::limits::MAX_BODY_BYTES;
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;

/// All routes.
pub fn router(app: App) -> Router {
    Router::new()
        .nest("/v1", v1::router())
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .fallback(async || ApiError::not_found("path"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(headers))
        .layer(CatchPanicLayer::custom(|_| ApiError::internal().into_response()))
        .with_state(app)
}

/// Ready when the database and Temporal answer; otherwise names what does not.
async fn readyz(State(app): State<App>) -> Response {
    let (database, temporal) = tokio::join!(app.store.ping(), app.dispatcher.is_ready());
    let mut missing = Vec::new();
    if database.is_err() || !app.verifier.is_ready() {
        missing.push("postgres: start it or check DATABASE_URL");
    }
    if !temporal {
        missing.push("temporal: start it or check TEMPORAL_ADDRESS");
    }
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(serde_json::json!({ "missing": missing }))).into_response()
}

/// Answers are for the caller only, and are what they say they are.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert("cache-control", axum::http::HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", axum::http::HeaderValue::from_static("nosniff"));
    response
}
