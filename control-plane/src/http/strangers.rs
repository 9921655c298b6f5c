//! Slows down addresses that send many requests without a good token: refused ones, and those to
//! what needs none. Health and readiness stay free, or whoever shares an address with a load
//! balancer could take an instance out of service.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::rates::Seen;
use super::rules;
use crate::app::App;

const FREE: [&str; 2] = ["/healthz", "/readyz"];

/// See the module.
pub async fn slow_down(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(ConnectInfo(address)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else {
        return next.run(request).await;
    };
    let address = address.ip();
    let seen = request.extensions().get::<Seen>().cloned().unwrap_or_default();
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let is_free = path.is_some_and(|path| FREE.contains(&path));
    let rule = rules::of(request.method(), request.extensions());
    let needs_token = rule.is_some_and(|rule| rule.needed.is_some());
    if !needs_token && !is_free {
        if let Err(refusal) = seen.note(app.strangers.take(address)) {
            return refusal.into_response();
        }
        return next.run(request).await;
    }
    let response = next.run(request).await;
    if response.status() != StatusCode::UNAUTHORIZED {
        return response;
    }
    match seen.note(app.strangers.take(address)) {
        Ok(()) => response,
        Err(refusal) => refusal.into_response(),
    }
}
