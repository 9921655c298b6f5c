//! Refuses query parameters that the description of an operation does not know, on every route: a
//! misspelt filter must not answer with everything. Nor are values taken that are no text.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::{ApiError, rules};

/// See the module.
pub async fn refuse_unknown(request: Request, next: Next) -> Response {
    match look(&request) {
        Err(detail) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail).into_response()
        }
        Ok(()) => next.run(request).await,
    }
}

fn look(request: &Request) -> Result<(), String> {
    let Some(query) = request.uri().query().filter(|query| !query.is_empty()) else {
        return Ok(());
    };
    let Some(rule) = rules::of(request.method(), request.extensions()) else { return Ok(()) };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or_default();
        let shown: String = name.chars().take(64).collect();
        if !rule.parameters.contains(name) {
            return Err(format!("this operation has no parameter `{shown}`"));
        }
        // It would be read with other characters in their place: of another file, for example.
        if percent_decode_str(pair).decode_utf8().is_err() {
            return Err(format!("the parameter `{shown}` is not valid UTF-8"));
        }
    }
    Ok(())
}
