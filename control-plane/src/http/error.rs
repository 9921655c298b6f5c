//! Every error as `application/problem+json` with a stable code. The source goes to the log.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::files::FileErrorCode;
use serde_json::{Value, json};

use crate::app::AppError;

/// An answer that is not a success.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// Places in the request that are wrong, where they are known.
    errors: Option<Value>,
}

impl ApiError {
    /// An error with a status, a stable code and a sentence for people.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: None }
    }

    /// There is no such thing, as far as this caller can know.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    /// The path exists, the method does not.
    pub fn method_not_allowed() -> Self {
        let detail = "this path does not support this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// Something broke; callers cannot help it.
    pub fn internal() -> Self {
        let detail = "something failed inside the control plane; its log says what";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl ApiError {
    /// The stable code, and the sentence for people.
    pub fn told(&self) -> (&'static str, &str) {
        (self.code, &self.detail)
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        let (status, code) = match &error {
            AppError::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "unauthorized"),
            AppError::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            AppError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            AppError::Conflict { code, .. } => (StatusCode::CONFLICT, *code),
            AppError::Invalid { code, .. } => (StatusCode::UNPROCESSABLE_ENTITY, *code),
            AppError::TooMany { code, .. } => (StatusCode::TOO_MANY_REQUESTS, *code),
            AppError::TooLarge { code, .. } => (StatusCode::PAYLOAD_TOO_LARGE, *code),
            AppError::InvalidPolicy(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_policy"),
            AppError::BadPath { code, .. } => (StatusCode::BAD_REQUEST, *code),
            AppError::UnreadableBody(_) => (StatusCode::BAD_REQUEST, "unreadable_body"),
            AppError::Files(error) => file_error(error.code),
            AppError::Fenced => (StatusCode::CONFLICT, "fenced"),
            AppError::Moved => (StatusCode::GONE, "moved"),
            AppError::ExecutorUnavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "executor_unavailable")
            }
            AppError::DatabaseUnavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable")
            }
            AppError::TemporalUnavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporal_unavailable")
            }
            AppError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        if status.is_server_error() {
            let source = std::error::Error::source(&error);
            // Displayed, never debugged: a driver's debug form quotes values.
            let source = source.map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, source, "request failed");
        }
        let errors = match &error {
            AppError::InvalidPolicy(error) => Some(json!([error])),
            _ => None,
        };
        Self { errors, ..Self::new(status, code, error.to_string()) }
    }
}

fn file_error(code: FileErrorCode) -> (StatusCode, &'static str) {
    use FileErrorCode as C;
    match code {
        C::InvalidPath => (StatusCode::BAD_REQUEST, "invalid_path"),
        C::PathOutside => (StatusCode::BAD_REQUEST, "path_outside"),
        C::NotFound => (StatusCode::NOT_FOUND, "file_not_found"),
        C::NotRegularFile => (StatusCode::BAD_REQUEST, "not_regular_file"),
        C::NotDirectory => (StatusCode::BAD_REQUEST, "not_directory"),
        C::AlreadyExists => (StatusCode::CONFLICT, "already_exists"),
        C::NotEmpty => (StatusCode::CONFLICT, "not_empty"),
        C::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied"),
        C::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "file_too_large"),
        C::TooManyEntries => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_entries"),
        C::WorkspaceFull => (StatusCode::CONFLICT, "workspace_full"),
        C::Busy => (StatusCode::CONFLICT, "workspace_busy"),
        C::UnsafeArchiveEntry => (StatusCode::BAD_REQUEST, "unsafe_archive_entry"),
        C::MalformedArchive => (StatusCode::BAD_REQUEST, "malformed_archive"),
        C::Changed => (StatusCode::CONFLICT, "file_changed"),
        C::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "file_operation_failed"),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:bulkhead:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(errors) = self.errors {
            body["errors"] = errors;
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
