//! The activity `authorize`: decides about an exec, writes the decision down, and only then gives
//! a grant away. Fails closed: without its committed audit event there is no grant.
//!
//! Safe to repeat: what was decided stays decided, a human's answer is read from the table.

use std::sync::Arc;

use domain::approval::ApprovalState;
use domain::exec::{ExecEvent, ExecOutcome, ExecState};
use domain::ids::{ApprovalId, ExecutorId};
use domain::limits::{APPROVAL_TTL_MS, SandboxLimits};
use domain::session::SessionState;
use policy::{CommandRequest, Decision, Engine, Outcome};
use protocol::enrolment::executor_queue;
use protocol::exec::{ExecKind, ExecOrder, Intent, ToolRequest, order_context};
use protocol::grant::order_digest;
use protocol::session::{Authorized, ExecRef};
use protocol::tools::ToolCall;
use serde_json::json;
use time::OffsetDateTime;

use super::{ActivityFailure, order};
use crate::keys::Keys;
use crate::outcome::closing;
use crate::store::{
    Approval, AuditEntry, EventKind, Evidence, Exec, ExecError, NewApproval, RecordedDecision,
    Scope, Store, StoreError,
};
use crate::tenant_keys::TenantKeys;
use crate::{grants, home, ids};

/// Decides about execs and signs their grants, for the workflow and for whoever is ahead of it.
pub struct Authorizer {
    store: Store,
    keys: Arc<Keys>,
    tenant_keys: Arc<TenantKeys>,
    /// Seconds without a word after which an executor is given up.
    gone_after_s: f64,
}

/// Where an exec runs.
pub(crate) struct Place {
    pub(crate) executor_id: ExecutorId,
    pub(crate) limits: SandboxLimits,
    pub(crate) image_digest: String,
    pub(crate) min_generation: u32,
    /// Somebody has decided about it before, and may have brought it there.
    pub(crate) ahead: bool,
}

impl Authorizer {
    /// An authorizer over this store.
    pub fn new(
        store: Store,
        keys: Arc<Keys>,
        tenant_keys: Arc<TenantKeys>,
        gone_after_s: f64,
    ) -> Self {
        Self { store, keys, tenant_keys, gone_after_s }
    }

    /// What to do about an exec, and where it runs if it may.
    pub(crate) async fn authorize_at(
        &self,
        exec: ExecRef,
    ) -> Result<(Authorized, Option<Place>), ActivityFailure> {
        let mut scope = self.store.tenant(exec.tenant_id).await?;
        let stored = match scope.lock_exec(exec.exec_id).await {
            // A forged signal may name anything; only the session's own execs are carried out.
            Err(StoreError::NotFound) => return Ok((Authorized::Settled, None)),
            stored => stored?,
        };
        if stored.state.is_terminal() || stored.session_id != exec.session_id {
            return Ok((Authorized::Settled, None));
        }
        let session = scope.get_session(stored.session_id).await?;
        let called_off = stored.cancel_requested || session.state != SessionState::Open;
        if called_off && !stored.may_have_started() {
            closing::settle(&mut scope, &stored, ExecOutcome::Cancelled, None).await?;
            scope.commit().await?;
            return Ok((Authorized::Settled, None));
        }
        let Some(home) = home::find(&mut scope, &session, self.gone_after_s).await? else {
            return Ok((wait_for_executor(scope, &stored).await?, None));
        };
        let order = order::build(exec.tenant_id, &session, &stored, &home);
        let next = match (stored.state, &stored.decision) {
            (ExecState::PendingApproval, _) => answer(&mut scope, &stored, &order).await?,
            (_, Some(recorded)) => again(&mut scope, &stored, recorded, &order).await?,
            (_, None) => decide(&mut scope, &stored, &order).await?,
        };
        scope.commit().await?;
        match next {
            Next::Settled => Ok((Authorized::Settled, None)),
            Next::Wait { approval_id, look_again_in_ms } => {
                Ok((Authorized::Wait { approval_id: Some(approval_id), look_again_in_ms }, None))
            }
            Next::Run { policy_version } => {
                // Called off, and yet it may run: only its executor can end it and tell.
                let intent = if called_off { Intent::Settle } else { Intent::Run };
                let run = self.grant(&order, intent, home.executor_id, policy_version).await?;
                let place = Place {
                    executor_id: home.executor_id,
                    limits: order.limits,
                    image_digest: home.image_digest,
                    min_generation: home.min_generation,
                    ahead: stored.approval_id.is_none() && stored.may_have_started(),
                };
                Ok((run, Some(place)))
            }
        }
    }

    async fn grant(
        &self,
        order: &ExecOrder,
        intent: Intent,
        executor_id: ExecutorId,
        policy_version: i64,
    ) -> Result<Authorized, ActivityFailure> {
        let tenant = self.tenant_keys.get(order.tenant_id).await?;
        let now = OffsetDateTime::now_utc();
        let grant = grants::sign(&self.keys.grant, order, executor_id, policy_version, now)?;
        let context = order_context(order.exec_id);
        let sealed = sealing::seal(&tenant.payload_key, order.tenant_id, &context, order)?;
        Ok(Authorized::Run {
            request: ToolRequest { exec_id: order.exec_id, intent, grant, order: sealed },
            task_queue: executor_queue(&tenant.name, executor_id),
            timeout_ms: order.timeout_ms,
        })
    }
}

enum Next {
    Settled,
    Wait { approval_id: ApprovalId, look_again_in_ms: u64 },
    Run { policy_version: i64 },
}

async fn wait_for_executor(mut scope: Scope, exec: &Exec) -> Result<Authorized, ActivityFailure> {
    const REASON: &str = "no executor of this tenant has enrolled yet; start bulkhead-executor";
    closing::keep_waiting(&mut scope, exec, REASON).await?;
    scope.commit().await?;
    let look_again_in_ms = closing::patience_ms(exec);
    Ok(Authorized::Wait { approval_id: None, look_again_in_ms })
}

/// Decided before: the grant expired, or the answer got lost. What was approved is compared with
/// what would run, whatever happened to the rows in between.
async fn again(
    scope: &mut Scope,
    exec: &Exec,
    recorded: &RecordedDecision,
    order: &ExecOrder,
) -> Result<Next, ActivityFailure> {
    if let Some(approval_id) = exec.approval_id {
        let approval = scope.get_approval(approval_id).await?;
        if approval.order_sha256 != order_digest(order) {
            return refuse_changed(scope, exec).await;
        }
    }
    Ok(Next::Run { policy_version: recorded.policy_version })
}

async fn refuse_changed(scope: &mut Scope, exec: &Exec) -> Result<Next, ActivityFailure> {
    let error = ExecError {
        code: "order_changed".into(),
        message: "what would run is not what was approved".into(),
    };
    closing::settle_with(scope, exec, ExecOutcome::Cancelled, Some(&error)).await?;
    Ok(Next::Settled)
}

/// Asks the policy, for the first and only time.
async fn decide(
    scope: &mut Scope,
    exec: &Exec,
    order: &ExecOrder,
) -> Result<Next, ActivityFailure> {
    let engine = Engine::shipped();
    let recorded = RecordedDecision {
        decision: judge(&engine, order),
        policy_version: engine.version(),
        decided_by: "policy".into(),
    };
    let digest = order_digest(order);
    let judgement = Judgement { recorded: &recorded, order, order_sha256: &digest, approver: None };
    audit(scope, exec, judgement);
    match recorded.decision.outcome {
        Outcome::Allow => {
            let state = exec.state.apply(ExecEvent::Allow)?;
            scope.set_exec_decision(exec.id, state, &recorded, None).await?;
            Ok(Next::Run { policy_version: recorded.policy_version })
        }
        Outcome::Deny => {
            scope.set_exec_decision(exec.id, exec.state, &recorded, None).await?;
            let reason = recorded.decision.reasons.join("; ");
            closing::settle(scope, exec, ExecOutcome::Denied, Some(&reason)).await?;
            Ok(Next::Settled)
        }
        Outcome::Ask => {
            let approval_id: ApprovalId = ids::new();
            let state = exec.state.apply(ExecEvent::Ask)?;
            scope.set_exec_decision(exec.id, state, &recorded, Some(approval_id)).await?;
            let approval = NewApproval {
                id: approval_id,
                exec_id: exec.id,
                session_id: exec.session_id,
                order_sha256: &digest,
                reasons: &recorded.decision.reasons,
                requested_by: &exec.created_by,
                ttl_s: APPROVAL_TTL_MS as f64 / 1000.0,
            };
            scope.insert_approval(&approval).await?;
            let data = json!({ "exec_id": exec.id, "approval_id": approval_id });
            scope.append_event(exec.session_id, EventKind::ExecPendingApproval, data).await?;
            Ok(Next::Wait { approval_id, look_again_in_ms: APPROVAL_TTL_MS })
        }
    }
}

fn judge(engine: &Engine, order: &ExecOrder) -> Decision {
    let shell =
        CommandRequest { command: &order.command, cwd: &order.cwd, has_env: !order.env.is_empty() };
    match order.kind {
        ExecKind::Shell => engine.decide(&shell),
        ExecKind::Tool => match ToolCall::from_text(&order.command) {
            Ok(call) => engine.decide_tool(&policy::ToolRequest {
                name: call.name(),
                text: &order.command,
                writes: call.writes(),
            }),
            // Not a call that we made: a script, as far as policy is concerned.
            Err(_) => engine.decide(&shell),
        },
    }
}

/// Reads what a human answered, if one did.
async fn answer(
    scope: &mut Scope,
    exec: &Exec,
    order: &ExecOrder,
) -> Result<Next, ActivityFailure> {
    let approval_id = exec.approval_id.ok_or(StoreError::Inconsistent("exec approval"))?;
    let approval = scope.get_approval(approval_id).await?;
    match approval.state {
        ApprovalState::Pending => {
            let left = approval.expires_at - OffsetDateTime::now_utc();
            if left.is_positive() {
                let look_again_in_ms = u64::try_from(left.whole_milliseconds()).unwrap_or(0) + 1;
                return Ok(Next::Wait { approval_id, look_again_in_ms });
            }
            let expired = approval.state.settle(ApprovalState::Expired)?;
            scope.settle_approval(approval_id, expired, None, None).await?;
            let reason = "nobody answered the approval in time";
            closing::settle(scope, exec, ExecOutcome::Denied, Some(reason)).await?;
            Ok(Next::Settled)
        }
        ApprovalState::Approved if approval.order_sha256 != order_digest(order) => {
            refuse_changed(scope, exec).await
        }
        ApprovalState::Approved => approve(scope, exec, order, &approval).await,
        ApprovalState::Denied | ApprovalState::Expired | ApprovalState::Cancelled => {
            let reason = approval.reason.as_deref().unwrap_or("no reason was given");
            let who = approval.decided_by.as_deref().unwrap_or("nobody");
            let reason = format!("{who} denied it: {reason}");
            record_human(scope, exec, &approval).await?;
            closing::settle(scope, exec, ExecOutcome::Denied, Some(&reason)).await?;
            Ok(Next::Settled)
        }
    }
}

async fn approve(
    scope: &mut Scope,
    exec: &Exec,
    order: &ExecOrder,
    approval: &Approval,
) -> Result<Next, ActivityFailure> {
    let recorded = record_human(scope, exec, approval).await?;
    let approver = scope.find_approver(&approval.id.to_string()).await?;
    let order_sha256 = &approval.order_sha256;
    audit(scope, exec, Judgement { recorded: &recorded, order, order_sha256, approver });
    let data = json!({ "exec_id": exec.id });
    scope.append_event(exec.session_id, EventKind::ExecQueued, data).await?;
    Ok(Next::Run { policy_version: recorded.policy_version })
}

/// Keeps who decided beside what policy had said.
async fn record_human(
    scope: &mut Scope,
    exec: &Exec,
    approval: &Approval,
) -> Result<RecordedDecision, ActivityFailure> {
    let mut recorded = exec.decision.clone().ok_or(StoreError::Inconsistent("exec decision"))?;
    recorded.decided_by = approval.decided_by.clone().unwrap_or_else(|| "nobody".into());
    let approved = approval.state == ApprovalState::Approved;
    recorded.decision.outcome = if approved { Outcome::Allow } else { Outcome::Deny };
    if let Some(reason) = &approval.reason {
        recorded.decision.reasons.push(reason.clone());
    }
    let state = exec.state.apply(ExecEvent::Allow)?;
    // A denied exec keeps its state until it is settled, in the same transaction.
    let state = if approved { state } else { exec.state };
    scope.set_exec_decision(exec.id, state, &recorded, None).await?;
    Ok(recorded)
}

/// What a decision looks like in the audit log.
struct Judgement<'a> {
    recorded: &'a RecordedDecision,
    order: &'a ExecOrder,
    order_sha256: &'a str,
    /// The token of the human who decided, if one did.
    approver: Option<String>,
}

fn audit(scope: &mut Scope, exec: &Exec, judgement: Judgement<'_>) {
    let Judgement { recorded, order, order_sha256, approver } = judgement;
    let RecordedDecision { decision, policy_version, decided_by } = recorded;
    let programs = decision.facts.iter().map(|fact| fact.program.clone()).collect();
    let evidence = Evidence {
        decision: Some(audit::Decision {
            outcome: decision.outcome.as_str().into(),
            rules: decision.rules.clone(),
            policy_version: Some(*policy_version),
            approver,
        }),
        reasons: decision.reasons.clone(),
        programs,
        image_digest: Some(order.image_digest.clone()),
        ..Evidence::default()
    };
    scope.append_audit(AuditEntry {
        actor: decided_by.clone(),
        session_id: Some(exec.session_id),
        outcome: decision.outcome.as_str(),
        evidence,
        detail: json!({
            "command": exec.command, "order_sha256": order_sha256,
            "approval_id": exec.approval_id, "decided_by": decided_by,
        }),
        ..AuditEntry::by_part("policy", "exec.authorize", exec.id)
    });
}
