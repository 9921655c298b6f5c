//! `/v1/sessions/{id}/evidence`: everything that the audit log has about one session, in its order,
//! each said to be what it is. It adds nothing to the log and leaves nothing out.

use axum::Json;
use axum::extract::State;
use domain::access::Operation;
use domain::ids::SessionId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::view::View;
use crate::app::{App, AppError, Caller};
use crate::http::ApiError;
use crate::http::json::{Id, Params};
use crate::http::page::{Page, checked_limit};
use crate::store::AuditFilter;

/// Query string of `GET /v1/sessions/{id}/evidence`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EvidenceParams {
    /// `next_cursor` of the page before: an audit number.
    cursor: Option<i64>,
    limit: Option<i64>,
}

/// An audit event of the session, and what it is evidence of.
#[derive(Serialize, ToSchema)]
#[schema(as = EvidenceItem)]
pub struct Item {
    kind: &'static str,
    #[serde(flatten)]
    event: View,
}

impl From<View> for Item {
    fn from(event: View) -> Self {
        Self { kind: kind_of(&event.action), event }
    }
}

/// What an action is evidence of.
fn kind_of(action: &str) -> &'static str {
    match action {
        "exec.create" => "command",
        "exec.authorize" => "decision",
        "exec.finish" | "exec.output_lost" => "result",
        // Input, signals, sizes and the end that somebody asked for.
        _ if action.starts_with("exec.") => "control",
        _ if action.starts_with("approval.") => "approval",
        _ if action.starts_with("turn.") => "turn",
        _ if action.starts_with("session.") => "session",
        _ if action.starts_with("sandbox.") => "sandbox",
        _ if action.starts_with("file.") => "file",
        "audit.review" => "review",
        _ => "other",
    }
}

/// Lists what is on record about a session, oldest first.
#[utoipa::path(
    get, path = "/sessions/{id}/evidence", operation_id = "list_session_evidence", tag = "audit",
    security(("token" = ["read_audit"])),
    params(("id" = SessionId, Path), EvidenceParams),
    responses((status = 200, body = Page<Item>)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<SessionId>,
    Params(params): Params<EvidenceParams>,
) -> Result<Json<Page<Item>>, ApiError> {
    let limit = checked_limit(params.limit)?;
    let mut scope = caller.open(&app, Operation::ReadAudit).await?;
    scope.get_session(id).await.map_err(AppError::of("session"))?;
    let filter = AuditFilter { session_id: Some(id.to_string()), ..AuditFilter::default() };
    let after = params.cursor.unwrap_or(0);
    let records = scope.list_audit(&filter, after, limit).await.map_err(AppError::from)?;
    let items = records.into_iter().map(|record| View::from(record).into()).collect();
    Ok(Json(Page::new(items, limit, |item: &Item| item.event.seq.to_string())))
}

#[cfg(test)]
mod tests {
    use super::kind_of;

    #[test]
    fn actions_are_evidence_of_what_they_say() {
        let kinds = ["exec.create", "exec.cancel", "approval.vote", "audit.review", "new.thing"];
        let found = kinds.map(kind_of);
        assert_eq!(found, ["command", "control", "approval", "review", "other"]);
    }
}
