//! The activity `authorize`: decides about an exec, writes the decision down, and only then gives
//! a grant away. Fails closed: without its committed audit event there is no grant.
//!
//! Safe to repeat: what was decided stays decided, a human's answer is read from the table.

use domain::exec::{ExecOutcome, ExecState};
use domain::ids::{ApprovalId, ExecutorId};
use domain::session::SessionState;
use protocol::enrolment::executor_queue;
use protocol::exec::{ExecOrder, Intent, ToolRequest, order_context};
use protocol::session::{Authorized, ExecRef};
use time::OffsetDateTime;

use super::case::Case;
use super::{Activities, ActivityFailure, answering, deciding, order};
use crate::outcome::closing;
use crate::store::{Exec, Scope, StoreError};
use crate::{grants, home};

impl Activities {
    pub(super) async fn authorize(&self, exec: ExecRef) -> Result<Authorized, ActivityFailure> {
        let mut scope = self.store.tenant(exec.tenant_id).await?;
        let stored = match scope.lock_exec(exec.exec_id).await {
            // A forged signal may name anything; only the session's own execs are carried out.
            Err(StoreError::NotFound) => return Ok(Authorized::Settled),
            stored => stored?,
        };
        if stored.state.is_terminal() || stored.session_id != exec.session_id {
            return Ok(Authorized::Settled);
        }
        let session = scope.get_session(stored.session_id).await?;
        if stored.cancel_requested || session.state != SessionState::Open {
            closing::settle(&mut scope, &stored, ExecOutcome::Cancelled, None).await?;
            scope.commit().await?;
            return Ok(Authorized::Settled);
        }
        let Some(home) = home::find(&mut scope, &session, self.gone_after_s).await? else {
            return wait_for_executor(scope, &stored).await;
        };
        let order = order::build(exec.tenant_id, &session, &stored, &home);
        let scene = scope.get_scene(&stored.created_by, session.id).await?;
        let policy = self.engines.get(&mut scope, scene.policy_version).await?;
        let mode = session.approval_mode;
        let case = Case { exec: &stored, order: &order, scene, policy, mode };
        let next = match (stored.state, &stored.decision) {
            (ExecState::PendingApproval, _) => answering::answer(&mut scope, &case).await?,
            (_, Some(recorded)) => answering::again(&mut scope, &case, recorded).await?,
            (_, None) => deciding::decide(&mut scope, &case).await?,
        };
        scope.commit().await?;
        match next {
            Next::Settled => Ok(Authorized::Settled),
            Next::Wait { approval_id, look_again_in_ms } => {
                Ok(Authorized::Wait { approval_id: Some(approval_id), look_again_in_ms })
            }
            Next::Run { policy_version } => {
                self.grant(&order, home.executor_id, policy_version).await
            }
        }
    }

    async fn grant(
        &self,
        order: &ExecOrder,
        executor_id: ExecutorId,
        policy_version: i64,
    ) -> Result<Authorized, ActivityFailure> {
        let tenant = self.tenant_keys.get(order.tenant_id).await?;
        let now = OffsetDateTime::now_utc();
        let grant = grants::sign(&self.keys.grant, order, executor_id, policy_version, now)?;
        let context = order_context(order.exec_id);
        let sealed = sealing::seal(&tenant.payload_key, order.tenant_id, &context, order)?;
        Ok(Authorized::Run {
            request: ToolRequest {
                exec_id: order.exec_id,
                intent: Intent::Run,
                grant,
                order: sealed,
            },
            task_queue: executor_queue(&tenant.name, executor_id),
            timeout_ms: order.timeout_ms,
        })
    }
}

/// What comes of an exec for now.
pub(super) enum Next {
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
