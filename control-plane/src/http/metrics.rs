//! `/metrics`, and the counting of every answer.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::ApiError;
use crate::app::App;
use crate::metrics::Now;

/// Counts, by the route that was matched: what a client invents must not become a label.
pub async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let started = Instant::now();
    let response = next.run(request).await;
    if let Some(route) = route {
        let status = response.status().as_u16();
        app.metrics.count(method.as_str(), &route, status, started.elapsed());
    }
    response
}

/// What this instance counts, in the format of OpenMetrics.
#[utoipa::path(
    get, path = "/metrics", operation_id = "get_metrics", tag = "operations",
    security(()),
    responses((status = 200, body = String, content_type = "application/openmetrics-text")),
)]
pub async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let (outbox, temporal) = tokio::join!(app.store.count_outbox(), app.dispatcher.is_ready());
    let now = Now {
        streams: app.streams.count(),
        is_listening: app.hub.is_listening(),
        knows_revocations: app.verifier.is_ready(),
        reaches_temporal: temporal,
        connections: app.store.connections(),
        outbox: outbox.ok(),
    };
    let text = app.metrics.write(&now).map_err(|_| ApiError::internal())?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
