//! The activity `authorize`: decides about an exec, writes the decision down, and only then gives
//! a grant away. Fails closed: without its committed audit event there is no grant.
//!
//! Safe to repeat: what was decided stays decided, a human's answer is read from the table.

use std::sync::Arc;

use domain::exec::{ExecOutcome, ExecState};
use domain::ids::{ApprovalId, ExecutorId};
use domain::limits::SandboxLimits;
use domain::session::SessionState;
use protocol::enrolment::executor_queue;
use protocol::exec::{ExecOrder, Intent, ToolRequest, order_context};
use protocol::session::{Authorized, ExecRef};
use time::OffsetDateTime;
use traces::{Attribute, Kind, Span};

use super::case::Case;
use super::{ActivityFailure, answering, deciding, order};
use crate::grants::Permission;
use crate::judging::Engines;
use crate::keys::Keys;
use crate::outcome::closing;
use crate::store::{Exec, Message, Outgoing, RecordedDecision, Scope, Store, StoreError};
use crate::tenant_keys::TenantKeys;
use crate::{grants, home};

/// Decides about execs and signs their grants, for the workflow and for whoever is ahead of it.
pub struct Authorizer {
    store: Store,
    keys: Arc<Keys>,
    tenant_keys: Arc<TenantKeys>,
    engines: Arc<Engines>,
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
    /// It was recalled just now: what its workflow is told of that, in the outbox already.
    pub(crate) recalled: Option<Outgoing>,
}

impl Authorizer {
    /// An authorizer over this store.
    pub fn new(
        store: Store,
        keys: Arc<Keys>,
        tenant_keys: Arc<TenantKeys>,
        engines: Arc<Engines>,
        gone_after_s: f64,
    ) -> Self {
        Self { store, keys, tenant_keys, engines, gone_after_s }
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
        let mut span = Span::below(stored.traceparent.as_deref(), "authorize", Kind::Internal);
        span.set(Attribute::tenant(exec.tenant_id));
        span.set(Attribute::session(exec.session_id));
        span.set(Attribute::exec(exec.exec_id));
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
        // Before the session's row may be held, which others wait for.
        let scene = scope.get_scene(&stored.created_by, session.id).await?;
        let policy = self.engines.get(&mut scope, scene.policy_version).await?;
        let Some(home) = home::find(&mut scope, &session, self.gone_after_s).await? else {
            return Ok((wait_for_executor(scope, &stored).await?, None));
        };
        // Given to an executor that the session has left since: no other one may start it.
        if let Some(granted_to) = stored.executor_id
            && granted_to != home.executor_id
        {
            let reason = Some("its executor is gone; whether it ran is not known");
            closing::settle(&mut scope, &stored, ExecOutcome::Lost, reason).await?;
            scope.commit().await?;
            return Ok((Authorized::Settled, None));
        }
        let order = order::build(exec.tenant_id, &session, &stored, &home);
        let mode = session.approval_mode;
        let case = Case { exec: &stored, order: &order, scene, policy, mode };
        let next = match (stored.state, &stored.decision) {
            (ExecState::PendingApproval, _) => answering::answer(&mut scope, &case).await?,
            (_, Some(recorded)) => answering::again(&mut scope, &case, recorded).await?,
            (_, None) => deciding::decide(&mut scope, &case).await?,
        };
        let (permission, recalled) = match next {
            Next::Settled => {
                scope.commit().await?;
                return Ok((Authorized::Settled, None));
            }
            Next::Wait { approval_id, look_again_in_ms } => {
                scope.commit().await?;
                let approval_id = Some(approval_id);
                return Ok((Authorized::Wait { approval_id, look_again_in_ms }, None));
            }
            Next::Run(permission) => (permission, None),
            Next::Recall(permission) => {
                let message = Message::CancelExec(stored.id);
                (permission, Some(scope.promise(session.id, message).await?))
            }
        };
        scope.set_exec_executor(stored.id, home.executor_id).await?;
        scope.commit().await?;
        let ahead = stored.approval_id.is_none() && stored.may_have_started();
        // Called off, and yet it may run: only its executor can end it and tell.
        let intent = match called_off || recalled.is_some() {
            true => Intent::Settle,
            false => Intent::Run,
        };
        let mut run = self.grant(&order, intent, home.executor_id, permission).await?;
        if let Authorized::Run { request, .. } = &mut run {
            request.traceparent = stored.traceparent;
        }
        let place = Place {
            executor_id: home.executor_id,
            limits: order.limits,
            image_digest: home.image_digest,
            min_generation: home.min_generation,
            ahead,
            recalled,
        };
        Ok((run, Some(place)))
    }

    async fn grant(
        &self,
        order: &ExecOrder,
        intent: Intent,
        executor_id: ExecutorId,
        permission: Permission,
    ) -> Result<Authorized, ActivityFailure> {
        let tenant = self.tenant_keys.get(order.tenant_id).await?;
        let now = OffsetDateTime::now_utc();
        let order = &ExecOrder { checks: permission.checks.clone(), ..order.clone() };
        let grant = grants::sign(&self.keys.grants.signer(), order, executor_id, permission, now)?;
        let context = order_context(order.exec_id);
        let sealed = sealing::seal(&tenant.payload_key, order.tenant_id, &context, order)?;
        Ok(Authorized::Run {
            request: ToolRequest {
                exec_id: order.exec_id,
                intent,
                grant,
                order: sealed,
                traceparent: None,
            },
            task_queue: executor_queue(&tenant.name, executor_id),
            timeout_ms: order.timeout_ms,
        })
    }
}

/// What comes of an exec for now.
pub(super) enum Next {
    Settled,
    Wait {
        approval_id: ApprovalId,
        look_again_in_ms: u64,
    },
    Run(Permission),
    /// It was allowed and must not start any more; its executor has to rule that out.
    Recall(Permission),
}

impl Next {
    /// It may run, by this decision.
    pub(super) fn run(recorded: &RecordedDecision) -> Self {
        Self::Run(permission(recorded))
    }

    /// It was permitted by this decision, which a later one overtook.
    pub(super) fn recall(recorded: &RecordedDecision) -> Self {
        Self::Recall(permission(recorded))
    }
}

fn permission(recorded: &RecordedDecision) -> Permission {
    let policy_version = recorded.policy_version;
    Permission { policy_version, checks: recorded.checks() }
}

async fn wait_for_executor(mut scope: Scope, exec: &Exec) -> Result<Authorized, ActivityFailure> {
    const REASON: &str = "no executor of this tenant has enrolled yet; start bulkhead-executor";
    closing::keep_waiting(&mut scope, exec, REASON).await?;
    scope.commit().await?;
    let look_again_in_ms = closing::patience_ms(exec);
    Ok(Authorized::Wait { approval_id: None, look_again_in_ms })
}
