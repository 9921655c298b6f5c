//! `/v1/audit/erasures`: erasing details of audit events, for good.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::ids::{ExecId, SessionId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, Caller};
use crate::http::ApiError;
use crate::http::json::Body;
use crate::store::{Erased, ErasureScope};

/// Body of `POST /v1/audit/erasures`: exactly one of them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateAuditErasure)]
pub struct Create {
    exec_id: Option<ExecId>,
    session_id: Option<SessionId>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    before: Option<OffsetDateTime>,
}

/// What was erased.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditErasure)]
pub struct View {
    /// How many events lost their details now.
    erased: i64,
    /// How many keep theirs: their exec is not over. Null while there is more to erase.
    kept: Option<i64>,
    /// Whether there is more to erase: send it again.
    more: bool,
}

impl From<Erased> for View {
    fn from(erased: Erased) -> Self {
        Self { erased: erased.erased, kept: erased.kept, more: erased.has_more() }
    }
}

/// Erases details of an exec's or a session's events, or of all before a time; at most 5000 at once.
#[utoipa::path(
    post, path = "/audit/erasures", operation_id = "create_audit_erasure", tag = "audit",
    security(("token" = ["manage_audit"])),
    request_body = Create,
    responses((status = 201, body = View)),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let what = match (body.exec_id, body.session_id, body.before) {
        (Some(id), None, None) => ErasureScope::Exec(id),
        (None, Some(id), None) => ErasureScope::Session(id),
        (None, None, Some(time)) => ErasureScope::Before(time),
        _ => {
            let detail = "give one of exec_id, session_id and before";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(ApiError::new(status, "invalid_erasure", detail));
        }
    };
    Ok((StatusCode::CREATED, Json(app.erase_audit(&caller, what).await?.into())))
}
