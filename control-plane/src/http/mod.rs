//! The HTTP API: extract, authorise, one call, map. No SQL, no decisions.

mod addresses;
mod auth;
mod bodies;
mod error;
mod health;
mod json;
mod jwks;
mod metrics;
mod openapi;
mod page;
mod query;
mod rates;
mod reporter;
mod rules;
mod server;
mod stalled;
mod strangers;
mod traced;
mod v1;

pub use error::ApiError;
pub use openapi::{needed, operations};
pub use server::{ConnectionLimits, serve};

use std::sync::LazyLock;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use domain::limits::MAX_BODY_BYTES;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The API's description, as `/openapi.json` gives it.
pub static DESCRIPTION: LazyLock<OpenApi> =
    LazyLock::new(|| openapi::complete(described().into_openapi()));

fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::frame())
        .nest("/v1", v1::router())
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(jwks::keys))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi::document))
}

/// All routes.
pub fn router(app: App) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .fallback(async || ApiError::not_found("path"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(bodies::guard))
        .layer(middleware::from_fn(traced::trace))
        .layer(middleware::from_fn(query::refuse_unknown))
        .layer(middleware::from_fn_with_state(app.clone(), strangers::slow_down))
        .layer(middleware::from_fn(rates::announce))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::observe))
        .layer(middleware::from_fn(headers))
        .layer(CatchPanicLayer::custom(|_| ApiError::internal().into_response()))
        .with_state(app)
}

/// Answers are for the caller only, and are what they say they are.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert("cache-control", axum::http::HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", axum::http::HeaderValue::from_static("nosniff"));
    response
}
