//! Tells callers where they stand with their request rate: `RateLimit-*` on every answer to a
//! token, `Retry-After` with a refusal.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::ApiError;
use crate::rates::Standing;

/// Where the extractor of the caller leaves what the answer has to tell.
#[derive(Clone, Default)]
pub struct Seen(Arc<OnceLock<Standing>>);

impl Seen {
    /// Leaves it there, and refuses a request that is one too many.
    ///
    /// # Errors
    /// 429 then.
    pub fn note(&self, standing: Standing) -> Result<(), ApiError> {
        // Asked once per request; a second caller would be the same one.
        let _ = self.0.set(standing);
        if !standing.refused {
            return Ok(());
        }
        let Standing { limit, reset_s, .. } = standing;
        let detail = format!("over {limit} requests in this minute; try again in {reset_s} s");
        Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail))
    }
}

/// See the module.
pub async fn announce(mut request: Request, next: Next) -> Response {
    let seen = Seen::default();
    request.extensions_mut().insert(seen.clone());
    let mut response = next.run(request).await;
    if let Some(standing) = seen.0.get() {
        write(response.headers_mut(), standing);
    }
    response
}

fn write(headers: &mut HeaderMap, standing: &Standing) {
    let mut put = |name: &'static str, number: i64| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(number));
    };
    put("ratelimit-limit", standing.limit);
    put("ratelimit-remaining", standing.remaining);
    put("ratelimit-reset", standing.reset_s);
    if standing.refused {
        put("retry-after", standing.reset_s);
    }
}
