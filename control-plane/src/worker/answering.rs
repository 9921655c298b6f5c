//! The later looks at an exec that was decided about: what humans have answered, and what a version
//! of the policy says that came meanwhile. A stricter one applies at once, a looser one releases.

use domain::approval::ApprovalState;
use domain::exec::{ExecEvent, ExecOutcome, ExecState};
use policy::Outcome;
use protocol::grant::order_digest;
use serde_json::json;
use time::OffsetDateTime;

use super::ActivityFailure;
use super::authorize::Next;
use super::case::Case;
use super::deciding::{self, answered_for_session};
use crate::judging::is_enough;
use crate::outcome::closing;
use crate::store::{
    Approval, AuditEntry, EventKind, ExecError, RecordedDecision, Scope, StoreError, Vote,
};

/// Allowed before: the grant expired, the answer got lost, or the executor has it already. What was
/// approved is compared with what would run. Unless it is known to have started, a version of the
/// policy that came meanwhile can recall it; whether it ran is then for its executor to tell.
pub(super) async fn again(
    scope: &mut Scope,
    case: &Case<'_>,
    recorded: &RecordedDecision,
) -> Result<Next, ActivityFailure> {
    if let Some(approval_id) = case.exec.approval_id {
        let approval = scope.get_approval(approval_id).await?;
        if approval.order_sha256 != order_digest(case.order) {
            return refuse_changed(scope, case).await;
        }
    }
    let may_be_recalled = case.exec.state == ExecState::Queued && !case.exec.cancel_requested;
    if may_be_recalled
        && recorded.policy_version != case.policy.version()
        && let Some(refused) = overtaken(scope, case).await?
    {
        case.audit(scope, &refused, "deny", None, None);
        scope.recall_exec(case.exec.id, &refused).await?;
        return Ok(Next::recall(recorded));
    }
    Ok(Next::run(recorded))
}

/// The refusal of something that was allowed under an earlier version and has not started, if the
/// active one would not let it run by now.
async fn overtaken(
    scope: &mut Scope,
    case: &Case<'_>,
) -> Result<Option<RecordedDecision>, ActivityFailure> {
    let now = case.judge();
    if answered_for_session(scope, case, &now).await?.is_some() {
        return Ok(None);
    }
    let votes = match case.exec.approval_id {
        Some(approval_id) => scope.lock_approval(approval_id).await?.votes,
        None => Vec::new(),
    };
    Ok(no_longer(now, &votes))
}

async fn refuse_changed(scope: &mut Scope, case: &Case<'_>) -> Result<Next, ActivityFailure> {
    let error = ExecError {
        code: "order_changed".into(),
        message: "what would run is not what was approved".into(),
    };
    closing::settle_with(scope, case.exec, ExecOutcome::Cancelled, Some(&error)).await?;
    Ok(Next::Settled)
}

/// Reads what a human answered, if one did.
pub(super) async fn answer(scope: &mut Scope, case: &Case<'_>) -> Result<Next, ActivityFailure> {
    let approval_id = case.exec.approval_id.ok_or(StoreError::Inconsistent("exec approval"))?;
    let approval = scope.lock_approval(approval_id).await?;
    match approval.state {
        ApprovalState::Pending => pending(scope, case, &approval).await,
        ApprovalState::Approved if approval.order_sha256 != order_digest(case.order) => {
            refuse_changed(scope, case).await
        }
        ApprovalState::Approved => {
            let asked = asked_by(case)?;
            if asked.policy_version != case.policy.version()
                && let Some(refused) = no_longer(case.judge(), &approval.votes)
            {
                return deciding::deny(scope, case, &refused).await;
            }
            release(scope, case, by_human(asked.clone(), &approval)).await
        }
        ApprovalState::Denied | ApprovalState::Expired | ApprovalState::Cancelled => {
            let reason = approval.reason.as_deref().unwrap_or("no reason was given");
            let who = approval.decided_by.as_deref().unwrap_or("nobody");
            let reason = format!("{who} denied it: {reason}");
            let recorded = by_human(asked_by(case)?.clone(), &approval);
            scope.set_exec_decision(case.exec.id, case.exec.state, &recorded, None).await?;
            closing::settle(scope, case.exec, ExecOutcome::Denied, Some(&reason)).await?;
            Ok(Next::Settled)
        }
    }
}

async fn pending(
    scope: &mut Scope,
    case: &Case<'_>,
    approval: &Approval,
) -> Result<Next, ActivityFailure> {
    let left = approval.expires_at - OffsetDateTime::now_utc();
    if !left.is_positive() {
        let expired = approval.state.settle(ApprovalState::Expired)?;
        scope.settle_approval(approval.id, expired, None, None).await?;
        scope.append_audit(AuditEntry {
            session_id: Some(case.exec.session_id),
            exec_id: Some(case.exec.id),
            outcome: expired.as_str(),
            ..AuditEntry::by_part("worker", "approval.expire", approval.id)
        });
        scope.queue_webhooks("approval.decided", &approval.id.to_string()).await?;
        let reason = "nobody answered the approval in time";
        closing::settle(scope, case.exec, ExecOutcome::Denied, Some(reason)).await?;
        return Ok(Next::Settled);
    }
    let asked = asked_by(case)?;
    let now = if asked.policy_version == case.policy.version() {
        asked.clone()
    } else {
        let now = case.judge();
        match now.decision.outcome {
            Outcome::Ask => {
                scope.set_exec_decision(case.exec.id, case.exec.state, &now, None).await?;
                scope.set_approval_reasons(approval.id, &now.decision.reasons).await?;
                case.audit_reconsidered(scope, approval.id, &now, "asked");
            }
            Outcome::Allow => return released_by_policy(scope, case, approval, now).await,
            Outcome::Deny => return denied_by_policy(scope, case, approval, &now).await,
        }
        now
    };
    if let Some(answered) = answered_for_session(scope, case, &now).await? {
        return released_by_policy(scope, case, approval, answered).await;
    }
    if is_enough(&approval.votes, &now.decision.approvers) {
        let settled = scope.approve_by_votes(approval.id, &approval.votes, None).await?;
        scope.queue_webhooks("approval.decided", &approval.id.to_string()).await?;
        case.audit_reconsidered(scope, approval.id, &now, "approved");
        return release(scope, case, by_human(now, &settled)).await;
    }
    let look_again_in_ms = u64::try_from(left.whole_milliseconds()).unwrap_or(0) + 1;
    Ok(Next::Wait { approval_id: approval.id, look_again_in_ms })
}

async fn released_by_policy(
    scope: &mut Scope,
    case: &Case<'_>,
    approval: &Approval,
    recorded: RecordedDecision,
) -> Result<Next, ActivityFailure> {
    let state = approval.state.settle(ApprovalState::Approved)?;
    let reason = recorded.decision.reasons.join("; ");
    scope.settle_approval(approval.id, state, Some(&recorded.decided_by), Some(&reason)).await?;
    scope.queue_webhooks("approval.decided", &approval.id.to_string()).await?;
    case.audit_reconsidered(scope, approval.id, &recorded, "approved");
    release(scope, case, recorded).await
}

async fn denied_by_policy(
    scope: &mut Scope,
    case: &Case<'_>,
    approval: &Approval,
    recorded: &RecordedDecision,
) -> Result<Next, ActivityFailure> {
    let state = approval.state.settle(ApprovalState::Denied)?;
    let reason = recorded.decision.reasons.join("; ");
    scope.settle_approval(approval.id, state, Some(&recorded.decided_by), Some(&reason)).await?;
    scope.queue_webhooks("approval.decided", &approval.id.to_string()).await?;
    case.audit_reconsidered(scope, approval.id, recorded, "denied");
    deciding::deny(scope, case, recorded).await
}

/// Permits what had to wait.
async fn release(
    scope: &mut Scope,
    case: &Case<'_>,
    recorded: RecordedDecision,
) -> Result<Next, ActivityFailure> {
    let approver = match case.exec.approval_id {
        Some(approval_id) => scope.find_approver(case.exec.session_id, approval_id).await?,
        None => None,
    };
    case.audit(scope, &recorded, "allow", None, approver);
    let state = case.exec.state.apply(ExecEvent::Allow)?;
    scope.set_exec_decision(case.exec.id, state, &recorded, None).await?;
    case.sample(scope, &recorded).await?;
    let data = json!({ "exec_id": case.exec.id });
    scope.append_event(case.exec.session_id, EventKind::ExecQueued, data).await?;
    Ok(Next::run(&recorded))
}

/// The refusal of something that was let through under an earlier version, if the active one forbids
/// it or asks for more people than have approved.
fn no_longer(mut now: RecordedDecision, votes: &[Vote]) -> Option<RecordedDecision> {
    match now.decision.outcome {
        Outcome::Deny => return Some(now),
        Outcome::Allow => return None,
        Outcome::Ask => {}
    }
    if is_enough(votes, &now.decision.approvers) {
        return None;
    }
    now.decision.outcome = Outcome::Deny;
    let version = now.policy_version;
    now.decision.reasons.push(format!(
        "an earlier version of the policy let it through, and version {version} asks for more; \
         submit it again"
    ));
    Some(now)
}

fn asked_by<'a>(case: &Case<'a>) -> Result<&'a RecordedDecision, ActivityFailure> {
    Ok(case.exec.decision.as_ref().ok_or(StoreError::Inconsistent("exec decision"))?)
}

/// Keeps who decided beside what policy had said.
fn by_human(mut recorded: RecordedDecision, approval: &Approval) -> RecordedDecision {
    recorded.decided_by = approval.decided_by.clone().unwrap_or_else(|| "nobody".into());
    let approved = approval.state == ApprovalState::Approved;
    recorded.decision.outcome = if approved { Outcome::Allow } else { Outcome::Deny };
    if let Some(reason) = &approval.reason {
        recorded.decision.reasons.push(reason.clone());
    }
    recorded
}
