//! Refuses query parameters that the description of an operation does not know, on every route: a
//! misspelt filter must not answer with everything.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{ApiError, rules};

/// See the module.
pub async fn refuse_unknown(request: Request, next: Next) -> Response {
    match unknown(&request) {
        Some(name) => {
            let detail = format!("this operation has no parameter `{name}`");
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail).into_response()
        }
        None => next.run(request).await,
    }
}

fn unknown(request: &Request) -> Option<String> {
    let query = request.uri().query().filter(|query| !query.is_empty())?;
    let rule = rules::of(request.method(), request.extensions())?;
    let names = query.split('&').filter(|pair| !pair.is_empty());
    names
        .map(|pair| pair.split('=').next().unwrap_or_default())
        .find(|name| !rule.parameters.contains(*name))
        .map(|name| name.chars().take(64).collect())
}
