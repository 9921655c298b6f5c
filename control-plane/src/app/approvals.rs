//! Deciding an approval: once, by somebody other than who asked.

use domain::access::Operation;
use domain::approval::ApprovalState;
use domain::ids::ApprovalId;
use domain::limits::MAX_REASON_BYTES;
use serde_json::json;
use time::OffsetDateTime;

use super::{App, AppError, Caller};
use crate::store::{Approval, Message};

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
    ) -> Result<Approval, AppError> {
        let reason = decision.reason.as_deref();
        if reason.is_some_and(|reason| reason.len() > MAX_REASON_BYTES || reason.contains('\0')) {
            return Err(AppError::invalid(
                "invalid_reason",
                format!("reason must be at most {MAX_REASON_BYTES} bytes without NUL characters"),
            ));
        }
        let mut scope = caller.open(self, Operation::DecideApprovals).await?;
        let approval = scope.lock_approval(id).await.map_err(AppError::of("approval"))?;
        let own = approval.requested_by == caller.token_id
            || scope.descends_from(caller.token_id, approval.requested_by).await?;
        if own {
            return Err(AppError::Forbidden(
                "whoever asked cannot approve, nor a token that it made".into(),
            ));
        }
        let wanted = match decision.verdict {
            Verdict::Approve => ApprovalState::Approved,
            Verdict::Deny => ApprovalState::Denied,
        };
        let expired = approval.expires_at <= OffsetDateTime::now_utc();
        let settled = approval.state.settle(wanted).ok().filter(|_| !expired).ok_or_else(|| {
            let state = if expired { "expired" } else { approval.state.as_str() };
            AppError::Conflict {
                code: "approval_settled",
                message: format!("this approval is {state} already; nothing was changed"),
            }
        })?;
        scope.settle_approval(id, settled, Some(caller.actor()), reason).await?;
        let detail = json!({
            "exec_id": approval.exec_id, "order_sha256": approval.order_sha256,
            "command": approval.command, "cwd": approval.cwd,
        });
        let mut entry =
            caller.session_entry("approval.decide", id.to_string(), approval.session_id, detail);
        entry.outcome = settled.as_str();
        entry.exec_id = Some(approval.exec_id);
        entry.evidence.decision = Some(audit::Decision {
            outcome: if settled == ApprovalState::Approved { "allow" } else { "deny" }.into(),
            rules: Vec::new(),
            policy_version: None,
            approver: Some(caller.token_id.to_string()),
        });
        entry.evidence.reasons = reason.map(ToOwned::to_owned).into_iter().collect();
        scope.append_audit(entry);
        let outgoing = scope.promise(approval.session_id, Message::Approval(id)).await?;
        let decided = scope.get_approval(id).await?;
        scope.commit().await?;
        // Decided for good: if Temporal is away, the outbox keeps the hint.
        if let Err(error) = self.dispatcher.send(&outgoing).await {
            tracing::warn!(%error, approval_id = %id, "hint stays in the outbox");
        }
        Ok(decided)
    }
}
