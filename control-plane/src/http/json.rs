//! JSON bodies in, strictly: unknown fields are refused by name, limits have their own answer.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Path, Query, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::ApiError;
use crate::app::App;

/// A request body of type `T`. `T` must deny unknown fields.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, app).await.map_err(unreadable)?;
        // Which is taken for an object whose fields come in order.
        if bytes.trim_ascii_start().starts_with(b"[") {
            let detail = "the body must be a JSON object, and is an array";
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail));
        }
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            let place = if path == "." { String::new() } else { format!("{path}: ") };
            let code = if inner.is_data() { "invalid_body" } else { "malformed_json" };
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, format!("{place}{inner}"))
        })?;
        json.end().map_err(|error| {
            let detail = error.to_string();
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed_json", detail)
        })?;
        Ok(Self(value))
    }
}

/// What a body that cannot be read is answered with.
pub fn unreadable(rejection: BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let limit = domain::limits::MAX_BODY_BYTES;
        let detail = format!("the request body is over {limit} bytes");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail);
    }
    let detail = "the request body broke off, paused for too long, or did not end in time";
    ApiError::new(StatusCode::BAD_REQUEST, "unreadable_body", detail)
}

/// An id in a path. What is no id of the right kind is simply not there.
pub struct Id<T>(pub T);

impl<T: std::str::FromStr + Send> axum::extract::FromRequestParts<App> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        app: &App,
    ) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, app)
            .await
            .map_err(|_| ApiError::not_found("object"))?;
        text.parse().map(Self).map_err(|_| ApiError::not_found("object"))
    }
}

/// A query string of type `T`. `T` must deny unknown fields.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> axum::extract::FromRequestParts<App> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        app: &App,
    ) -> Result<Self, ApiError> {
        let Query(value) = Query::from_request_parts(parts, app).await.map_err(|rejection| {
            let detail = rejection.body_text();
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail)
        })?;
        Ok(Self(value))
    }
}

/// The request's `Idempotency-Key`, if it has one: text, and one only.
pub struct IdempotencyKey(pub Option<String>);

impl axum::extract::FromRequestParts<App> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &App,
    ) -> Result<Self, ApiError> {
        let mut keys = parts.headers.get_all("idempotency-key").iter();
        let Some(key) = keys.next() else { return Ok(Self(None)) };
        let text = key.to_str().ok().filter(|_| keys.next().is_none());
        text.map(|key| Self(Some(key.to_owned()))).ok_or_else(|| {
            let detail = "there must be one Idempotency-Key, of printable ASCII";
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_idempotency_key", detail)
        })
    }
}
