//! `/v1/approvals`.

use axum::Json;
use axum::extract::State;
use domain::access::Operation;
use domain::approval::{ApprovalScope, ApprovalState};
use domain::ids::{ApprovalId, ExecId, SessionId};
use policy::{Approvers, Fact};
use protocol::grant::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, AppError, Caller, DecideApproval, Proposed, Verdict};
use crate::http::ApiError;
use crate::http::json::{Body, Id, IdempotencyKey, Params};
use crate::http::openapi::IdempotencyHeader;
use crate::http::page::{Page, checked_cursor, checked_limit};
use crate::store::{Approval, Vote};

/// Query string of `GET /v1/approvals`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    state: Option<ApprovalState>,
    session_id: Option<SessionId>,
    cursor: Option<String>,
    limit: Option<i64>,
}

/// Body of `POST /v1/approvals/{id}/decision`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DecideApproval)]
pub struct Decide {
    decision: Decision,
    reason: Option<String>,
    #[serde(default)]
    scope: ApprovalScope,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Verdict)]
enum Decision {
    Approve,
    Deny,
}

/// An approval as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Approval)]
pub struct View {
    approval_id: ApprovalId,
    exec_id: ExecId,
    session_id: SessionId,
    state: ApprovalState,
    kind: &'static str,
    command: String,
    cwd: String,
    env_names: Vec<String>,
    stdin: Option<StdinView>,
    stdin_open: bool,
    tty: bool,
    timeout_ms: i64,
    image_digest: Option<String>,
    reasons: Vec<String>,
    /// The rules that asked.
    rules: Vec<String>,
    /// What was understood of the command.
    facts: Vec<Fact>,
    policy_version: Option<i64>,
    /// Who has to approve.
    approvers: Approvers,
    /// Who did so far.
    votes: Vec<Vote>,
    scope: ApprovalScope,
    /// Whether an answer may hold for the rest of the session.
    may_hold_for_session: bool,
    order_sha256: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    decided_by: Option<String>,
    reason: Option<String>,
}

impl From<Approval> for View {
    fn from(approval: Approval) -> Self {
        let policy_version = approval.decision.as_ref().map(|recorded| recorded.policy_version);
        let decision = approval.decision.map(|recorded| recorded.decision);
        let (rules, facts, approvers) = decision
            .map(|decision| (decision.rules, decision.facts, decision.approvers))
            .unwrap_or_default();
        Self {
            kind: if approval.is_shell { "shell" } else { "tool" },
            stdin_open: approval.stdin_open,
            tty: approval.has_terminal,
            image_digest: approval.image_digest,
            rules,
            facts,
            policy_version,
            approvers,
            votes: approval.votes,
            scope: approval.scope,
            may_hold_for_session: approval.may_hold_for_session,
            approval_id: approval.id,
            exec_id: approval.exec_id,
            session_id: approval.session_id,
            state: approval.state,
            command: approval.command,
            cwd: approval.cwd,
            env_names: approval.env_names,
            stdin: approval.stdin.map(StdinView::from),
            timeout_ms: approval.timeout_ms,
            reasons: approval.reasons,
            order_sha256: approval.order_sha256,
            created_at: approval.created_at,
            expires_at: approval.expires_at,
            decided_by: approval.decided_by,
            reason: approval.reason,
        }
    }
}

/// What a command would read: a program may come this way.
#[derive(Serialize, ToSchema)]
#[schema(as = ApprovalStdin)]
struct StdinView {
    bytes: usize,
    sha256: String,
    text: String,
}

impl From<Vec<u8>> for StdinView {
    fn from(stdin: Vec<u8>) -> Self {
        Self {
            bytes: stdin.len(),
            sha256: hex(&Sha256::digest(&stdin)),
            text: String::from_utf8_lossy(&stdin).into_owned(),
        }
    }
}

/// Lists approvals, newest first.
#[utoipa::path(
    get, path = "/approvals", operation_id = "list_approvals", tag = "approvals",
    security(("token" = ["read_approvals"])),
    params(ListParams),
    responses((status = 200, body = Page<View>)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<View>>, ApiError> {
    let limit = checked_limit(params.limit)?;
    let before = checked_cursor(params.cursor.as_ref())?;
    let mut scope = caller.open(&app, Operation::ReadApprovals).await?;
    let approvals = scope
        .list_approvals(params.state, params.session_id, before, limit)
        .await
        .map_err(AppError::from)?;
    let views = approvals.into_iter().map(View::from).collect();
    Ok(Json(Page::new(views, limit, |view| view.approval_id.to_string())))
}

/// Shows an approval.
#[utoipa::path(
    get, path = "/approvals/{id}", operation_id = "get_approval", tag = "approvals",
    security(("token" = ["read_approvals"])),
    params(("id" = ApprovalId, Path)),
    responses((status = 200, body = View)),
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ApprovalId>,
) -> Result<Json<View>, ApiError> {
    let mut scope = caller.open(&app, Operation::ReadApprovals).await?;
    Ok(Json(scope.get_approval(id).await.map_err(AppError::of("approval"))?.into()))
}

/// Decides an approval.
#[utoipa::path(
    post, path = "/approvals/{id}/decision", operation_id = "decide_approval", tag = "approvals",
    security(("token" = ["decide_approvals"])),
    params(("id" = ApprovalId, Path), IdempotencyHeader),
    request_body = Decide,
    responses((status = 200, body = View)),
)]
pub async fn decide(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ApprovalId>,
    IdempotencyKey(key): IdempotencyKey,
    Body(body): Body<Decide>,
) -> Result<Json<View>, ApiError> {
    let verdict = match body.decision {
        Decision::Approve => Verdict::Approve,
        Decision::Deny => Verdict::Deny,
    };
    let decision = DecideApproval { verdict, reason: body.reason, scope: body.scope };
    Ok(Json(app.decide_approval(&caller, id, &decision, key.as_deref()).await?.into()))
}

/// Proposes a rule that would have allowed the command.
#[utoipa::path(
    post, path = "/approvals/{id}/proposal", operation_id = "propose_rule", tag = "approvals",
    security(("token" = ["read_policy"])),
    params(("id" = ApprovalId, Path)),
    responses((status = 200, body = Proposed)),
)]
pub async fn propose(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ApprovalId>,
) -> Result<Json<Proposed>, ApiError> {
    Ok(Json(app.propose_rule(&caller, id).await?))
}
