//! The first decision about an exec: what policy says, and what somebody has answered for the rest of
//! the session.

use domain::exec::{ExecEvent, ExecOutcome};
use domain::ids::ApprovalId;
use domain::limits::APPROVAL_TTL_MS;
use policy::Outcome;
use protocol::grant::order_digest;
use serde_json::json;

use super::ActivityFailure;
use super::authorize::Next;
use super::case::Case;
use crate::ids;
use crate::judging::session_key;
use crate::outcome::closing;
use crate::store::{EventKind, NewApproval, RecordedDecision, Scope};

/// Decides, and writes the decision down.
pub(super) async fn decide(scope: &mut Scope, case: &Case<'_>) -> Result<Next, ActivityFailure> {
    let recorded = case.judge();
    match recorded.decision.outcome {
        Outcome::Allow => allow(scope, case, &recorded).await,
        Outcome::Deny => deny(scope, case, &recorded).await,
        Outcome::Ask => match answered_for_session(scope, case, &recorded).await? {
            Some(answered) => allow(scope, case, &answered).await,
            None => ask(scope, case, &recorded).await,
        },
    }
}

/// Permits it.
pub(super) async fn allow(
    scope: &mut Scope,
    case: &Case<'_>,
    recorded: &RecordedDecision,
) -> Result<Next, ActivityFailure> {
    case.audit(scope, recorded, "allow", None, None);
    let state = case.exec.state.apply(ExecEvent::Allow)?;
    scope.set_exec_decision(case.exec.id, state, recorded, None).await?;
    case.sample(scope, recorded).await?;
    Ok(Next::run(recorded))
}

/// Refuses it for good.
pub(super) async fn deny(
    scope: &mut Scope,
    case: &Case<'_>,
    recorded: &RecordedDecision,
) -> Result<Next, ActivityFailure> {
    case.audit(scope, recorded, "deny", None, None);
    scope.set_exec_decision(case.exec.id, case.exec.state, recorded, None).await?;
    let reason = recorded.decision.reasons.join("; ");
    closing::settle(scope, case.exec, ExecOutcome::Denied, Some(&reason)).await?;
    Ok(Next::Settled)
}

async fn ask(
    scope: &mut Scope,
    case: &Case<'_>,
    recorded: &RecordedDecision,
) -> Result<Next, ActivityFailure> {
    let exec = case.exec;
    let approval_id: ApprovalId = ids::new();
    case.audit(scope, recorded, "ask", Some(approval_id), None);
    let state = exec.state.apply(ExecEvent::Ask)?;
    scope.set_exec_decision(exec.id, state, recorded, Some(approval_id)).await?;
    let key = session_key(case.order, &recorded.decision);
    let approval = NewApproval {
        id: approval_id,
        exec_id: exec.id,
        session_id: exec.session_id,
        order_sha256: &order_digest(case.order),
        reasons: &recorded.decision.reasons,
        requested_by: &exec.created_by,
        ttl_s: APPROVAL_TTL_MS as f64 / 1000.0,
        session_key: key.as_ref().map(<[u8; 32]>::as_slice),
    };
    scope.insert_approval(&approval).await?;
    scope.queue_webhooks("approval.pending", &approval_id.to_string()).await?;
    let data = json!({ "exec_id": exec.id, "approval_id": approval_id });
    scope.append_event(exec.session_id, EventKind::ExecPendingApproval, data).await?;
    Ok(Next::Wait { approval_id, look_again_in_ms: APPROVAL_TTL_MS })
}

/// What somebody has answered for the rest of the session, if the same rules ask for the same people
/// as they did then.
pub(super) async fn answered_for_session(
    scope: &mut Scope,
    case: &Case<'_>,
    recorded: &RecordedDecision,
) -> Result<Option<RecordedDecision>, ActivityFailure> {
    // It answers a question, and nothing else: never what policy forbids by now.
    if recorded.decision.outcome != Outcome::Ask {
        return Ok(None);
    }
    let Some(key) = session_key(case.order, &recorded.decision) else { return Ok(None) };
    let earlier = scope.list_session_approvals(case.exec.session_id, &key).await?;
    let same = |earlier: &RecordedDecision| {
        earlier.decision.rules == recorded.decision.rules
            && earlier.decision.approvers == recorded.decision.approvers
            // What was shown as a git read that is disarmed is another thing than one that is not.
            && earlier.decision.git_folders() == recorded.decision.git_folders()
    };
    let Some(earlier) = earlier.into_iter().find(|earlier| same(&earlier.decision)) else {
        return Ok(None);
    };
    let mut answered = recorded.clone();
    answered.decision.outcome = Outcome::Allow;
    answered.decided_by = format!("{} ({})", earlier.decided_by, earlier.id);
    answered.decision.reasons.push(format!("approved for the session: {}", earlier.id));
    Ok(Some(answered))
}
