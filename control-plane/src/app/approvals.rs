//! Deciding an approval: once, by somebody other than who asked, and by as many as the rule asks for.

use domain::access::Operation;
use domain::approval::{ApprovalScope, ApprovalState};
use domain::ids::ApprovalId;
use domain::limits::MAX_REASON_BYTES;
use serde_json::json;
use time::OffsetDateTime;

use super::idempotency::claim_key;
use super::{App, AppError, Caller};
use crate::judging::is_enough;
use crate::store::{Approval, EventKind, Message, NewVote, Scope, StoreError};

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may run.
    Approve,
    /// It must not run.
    Deny,
}

/// A decision to be made.
pub struct DecideApproval {
    /// Yes or no.
    pub verdict: Verdict,
    /// Why, for the model and the audit log.
    pub reason: Option<String>,
    /// How far a yes reaches.
    pub scope: ApprovalScope,
}

impl App {
    /// Decides an approval and tells the workflow to look again.
    ///
    /// # Errors
    /// When the caller may not, asked for it itself, or somebody was first.
    pub async fn decide_approval(
        &self,
        caller: &Caller,
        id: ApprovalId,
        decision: &DecideApproval,
        key: Option<&str>,
    ) -> Result<Approval, AppError> {
        let reason = decision.reason.as_deref();
        if reason.is_some_and(|reason| reason.len() > MAX_REASON_BYTES || reason.contains('\0')) {
            return Err(AppError::invalid(
                "invalid_reason",
                format!("reason must be at most {MAX_REASON_BYTES} bytes without NUL characters"),
            ));
        }
        let mut scope = caller.open(self, Operation::DecideApprovals).await?;
        let approve = decision.verdict == Verdict::Approve;
        let body = json!(["decision", id, approve, reason, decision.scope]);
        let earlier = claim_key(&mut scope, caller, key, &body, &id.to_string()).await?;
        if earlier.is_some() {
            return scope.get_approval(id).await.map_err(AppError::of("approval"));
        }
        let approval = scope.lock_approval(id).await.map_err(AppError::of("approval"))?;
        let own = approval.requested_by == caller.token_id
            || scope.descends_from(caller.token_id, approval.requested_by).await?;
        if own {
            return Err(AppError::Forbidden(
                "whoever asked cannot approve, nor a token that it made".into(),
            ));
        }
        check_open(&approval)?;
        let outcome = match decision.verdict {
            Verdict::Approve => vote(&mut scope, caller, &approval, decision).await?,
            Verdict::Deny => {
                let denied = approval.state.settle(ApprovalState::Denied);
                let denied = denied.map_err(AppError::internal)?;
                scope.settle_approval(id, denied, Some(caller.actor()), reason).await?;
                denied.as_str()
            }
        };
        let detail = json!({
            "exec_id": approval.exec_id, "order_sha256": approval.order_sha256,
            "command": approval.command, "cwd": approval.cwd, "scope": decision.scope,
        });
        let action = if outcome == VOTED { "approval.vote" } else { "approval.decide" };
        let mut entry = caller.session_entry(action, id.to_string(), approval.session_id, detail);
        entry.outcome = outcome;
        entry.exec_id = Some(approval.exec_id);
        entry.evidence.decision = Some(audit::Decision {
            outcome: if approve { "allow" } else { "deny" }.into(),
            rules: Vec::new(),
            policy_version: None,
            approver: Some(caller.token_id.to_string()),
        });
        entry.evidence.reasons = reason.map(ToOwned::to_owned).into_iter().collect();
        scope.append_audit(entry);
        let decided = scope.get_approval(id).await?;
        if outcome == VOTED {
            announce_vote(&mut scope, &decided).await?;
            scope.commit().await?;
            return Ok(decided);
        }
        scope.queue_webhooks("approval.decided", &id.to_string()).await?;
        let outgoing = scope.promise(approval.session_id, Message::Approval(id)).await?;
        scope.commit().await?;
        // Decided for good: if Temporal is away, the outbox keeps the hint.
        if let Err(error) = self.dispatcher.send(&outgoing).await {
            tracing::warn!(%error, approval_id = %id, "hint stays in the outbox");
        }
        Ok(decided)
    }
}

/// Tells those who wait that one of several yeses is there.
async fn announce_vote(scope: &mut Scope, approval: &Approval) -> Result<(), AppError> {
    let needed = approval.decision.as_ref().map(|recorded| &recorded.decision.approvers);
    let data = json!({
        "exec_id": approval.exec_id, "approval_id": approval.id,
        "votes": approval.votes.len(), "approvers": needed,
    });
    scope.append_event(approval.session_id, EventKind::ApprovalVoted, data).await?;
    Ok(scope.queue_webhooks("approval.voted", &approval.id.to_string()).await?)
}

/// Outcome of a yes that needs others beside it.
const VOTED: &str = "voted";

fn check_open(approval: &Approval) -> Result<(), AppError> {
    let expired = approval.expires_at <= OffsetDateTime::now_utc();
    if approval.state == ApprovalState::Pending && !expired {
        return Ok(());
    }
    let state = match approval.state {
        ApprovalState::Pending => "expired",
        settled => settled.as_str(),
    };
    Err(AppError::Conflict {
        code: "approval_settled",
        message: format!("this approval is {state} already; nothing was changed"),
    })
}

/// Adds the caller's yes, and settles the approval if that is enough.
async fn vote(
    scope: &mut Scope,
    caller: &Caller,
    approval: &Approval,
    decision: &DecideApproval,
) -> Result<&'static str, AppError> {
    if decision.scope == ApprovalScope::Session && !approval.may_hold_for_session {
        return Err(AppError::invalid(
            "scope_not_possible",
            "a command with variables, input or a terminal is approved once at a time: the same \
             text can do something else the next time. Use the scope once",
        ));
    }
    let vote = NewVote {
        approval_id: approval.id,
        token_id: caller.token_id,
        actor: caller.actor(),
        role: caller.role.as_str(),
        scope: decision.scope,
    };
    scope.insert_vote(&vote).await.map_err(|error| match error {
        StoreError::Conflict(_) => AppError::Conflict {
            code: "already_voted",
            message: "this token has approved it already; the rule asks for somebody else".into(),
        },
        error => error.into(),
    })?;
    let votes = scope.get_approval(approval.id).await?.votes;
    let needed = approval.decision.as_ref().map(|recorded| recorded.decision.approvers.clone());
    if !is_enough(&votes, &needed.unwrap_or_default()) {
        return Ok(VOTED);
    }
    let settled = approval.state.settle(ApprovalState::Approved).map_err(AppError::internal)?;
    scope.approve_by_votes(approval.id, &votes, decision.reason.as_deref()).await?;
    Ok(settled.as_str())
}
