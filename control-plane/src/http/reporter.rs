//! The headers by which an executor says which start of which executor it is.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::ApiError;
use crate::app::{App, Reporter};

impl FromRequestParts<App> for Reporter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let header = |name| parts.headers.get(name)?.to_str().ok();
        let executor_id = header("bulkhead-executor").and_then(|id| id.parse().ok());
        let epoch = header("bulkhead-epoch").and_then(|epoch| epoch.parse().ok());
        let (Some(executor_id), Some(epoch)) = (executor_id, epoch) else {
            let detail = "an executor names itself in the headers bulkhead-executor and \
                          bulkhead-epoch";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_reporter", detail));
        };
        Ok(Self { executor_id, epoch })
    }
}
