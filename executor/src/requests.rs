//! What the control plane asks of an executor about an exec, whichever way it asks: through the
//! gate, to the one run of that exec, and back as a sealed reply. Starts nothing by itself.

use std::sync::Arc;

use domain::ids::{ExecId, ExecutorId, TenantId};
use protocol::exec::{
    Intent, NotStarted, ToolOutcome, ToolReply, ToolReport, ToolRequest, reply_context,
};
use sealing::{Key, SealError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clock::now_s;
use crate::control::ControlPlane;
use crate::failpoint;
use crate::grant::{Gate, Refusal};
use crate::grant_keys::GrantKeys;
use crate::run::{Job, RunEnd};
use crate::runs::{Runs, Ticket};

/// Reports under way at once; more wait for the workflow like everything did before.
const MAX_REPORTS: usize = 64;
const REPORT_ATTEMPTS: usize = 2;

/// Nothing can be said of an exec now; ask again.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Something of ours failed; the log says what.
    #[error("the executor could not see the command through; it will try again")]
    Failed,
    /// The grant names a key that the control plane does not have, or not yet.
    #[error("the grant is signed with a key that is not known here; it will try again")]
    UnknownKey,
    /// The report could not be sealed.
    #[error("the report could not be sealed")]
    Seal(#[from] SealError),
    /// A successor of this executor has enrolled; it is the one to ask.
    #[error("another start of this executor has taken over")]
    Fenced,
}

/// See the module.
pub(crate) struct Requests {
    executor_id: ExecutorId,
    tenant_id: TenantId,
    payload_key: Key,
    gate: Gate,
    keys: Arc<GrantKeys>,
    control: Arc<ControlPlane>,
    runs: Arc<Runs>,
    /// One per report that is under way.
    reporters: Arc<Semaphore>,
}

impl Requests {
    /// Requests about the execs of `runs`, checked against the control plane's public keys.
    pub(crate) fn new(
        executor_id: ExecutorId,
        tenant_id: TenantId,
        payload_key: Key,
        keys: Arc<GrantKeys>,
        control: Arc<ControlPlane>,
        runs: Arc<Runs>,
    ) -> Self {
        let gate = Gate::new(executor_id, tenant_id, payload_key.clone(), Arc::clone(&keys));
        let reporters = Arc::new(Semaphore::new(MAX_REPORTS));
        Self { executor_id, tenant_id, payload_key, gate, keys, control, runs, reporters }
    }

    /// Whether a successor of this executor has enrolled: it is the one to act.
    pub(crate) fn is_fenced(&self) -> bool {
        self.control.fence().is_cancelled()
    }

    /// Does what a request wants: runs a granted command, joins it, answers from the journal, or
    /// settles it for ever. `cancel` calls a run off.
    ///
    /// # Errors
    /// When nothing true can be said now.
    pub(crate) async fn exec(
        &self,
        request: &ToolRequest,
        cancel: &CancellationToken,
    ) -> Result<ToolReply, ExecError> {
        self.keys.learn_from(&self.control, &request.grant).await;
        loop {
            if self.is_fenced() {
                return Err(ExecError::Fenced);
            }
            let Some(ticket) = self.take_ticket(request, cancel.is_cancelled())? else {
                return self.reply_not_started(request, NotStarted::GrantRefused);
            };
            let mut waiting = ticket.clone();
            let end = tokio::select! {
                end = waiting.wait() => end,
                // What runs is the successor's now.
                () = self.control.fence().cancelled() => return Err(ExecError::Fenced),
                () = cancel.cancelled() => {
                    ticket.cancel();
                    ticket.clone().wait().await
                }
            };
            // A run that was joined to settle it ended without a start: nothing forbids a later one
            // yet.
            let unsettled = request.intent == Intent::Settle && ticket.intent == Intent::Run;
            match end {
                RunEnd::Withdrawn => {}
                RunEnd::NotStarted { .. } | RunEnd::Failed if unsettled => {}
                end => return self.reply(request, end),
            }
        }
    }

    /// A place to wait for the request's exec. `None` when the request is refused.
    fn take_ticket(
        &self,
        request: &ToolRequest,
        called_off: bool,
    ) -> Result<Option<Ticket>, ExecError> {
        let exec = request.exec_id;
        let admitted = match self.gate.admit(request, now_s()) {
            Ok(admitted) => admitted,
            // It may run already, or its key may be known in a moment: a refusal would be a guess.
            Err(Refusal::UnknownKey) => return Err(ExecError::UnknownKey),
            Err(refusal) => {
                let reason = &refusal as &dyn std::error::Error;
                tracing::warn!(%exec, reason, "refused");
                return Ok(None);
            }
        };
        let session_id = admitted.order.session_id;
        let job = Job {
            exec_id: exec,
            intent: request.intent,
            order: Some(admitted.order),
            order_sha256: admitted.order_sha256,
            expired: admitted.expired,
            checks: admitted.checks,
            held: None,
            cancel: CancellationToken::new(),
            traceparent: request.traceparent.clone(),
        };
        let end_it = called_off || request.intent == Intent::Settle;
        if end_it {
            // Before it begins, so that it does not get as far as a start.
            job.cancel.cancel();
        }
        let ticket = self.runs.join_or_begin(session_id, job);
        match &ticket {
            Some(ticket) if end_it => ticket.cancel(),
            Some(_) => {}
            None => tracing::warn!(%exec, "refused: it runs with another order"),
        }
        Ok(ticket)
    }

    fn reply(&self, request: &ToolRequest, end: RunEnd) -> Result<ToolReply, ExecError> {
        let (sandbox, outcome) = match end {
            RunEnd::Finished { result, sandbox } => {
                (Some(sandbox), ToolOutcome::Finished(Arc::unwrap_or_clone(result)))
            }
            RunEnd::NotStarted { why, sandbox } => (sandbox, ToolOutcome::NotStarted(why)),
            RunEnd::Withdrawn | RunEnd::Failed => return Err(ExecError::Failed),
        };
        let finished = matches!(outcome, ToolOutcome::Finished(_));
        let report = ToolReport { executor_id: self.executor_id, sandbox, outcome };
        let context = reply_context(request.exec_id);
        let report = sealing::seal(&self.payload_key, self.tenant_id, &context, &report)?;
        let reply = ToolReply { report };
        if finished {
            self.report(request.exec_id, reply.clone());
        }
        failpoint::hit("reply_made");
        Ok(reply)
    }

    /// Tells the control plane directly, so that a client need not wait for the workflow. Best
    /// effort: the activity's answer is the one that counts.
    fn report(&self, exec_id: ExecId, reply: ToolReply) {
        let Ok(permit) = Arc::clone(&self.reporters).try_acquire_owned() else { return };
        let control = Arc::clone(&self.control);
        tokio::spawn(async move {
            let _permit = permit;
            for _ in 0..REPORT_ATTEMPTS {
                match control.report_result(exec_id, &reply).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::debug!(exec = %exec_id, %error, "result not reported directly");
                        if !error.is_transient() {
                            return;
                        }
                    }
                }
            }
        });
    }

    fn reply_not_started(
        &self,
        request: &ToolRequest,
        why: NotStarted,
    ) -> Result<ToolReply, ExecError> {
        self.reply(request, RunEnd::NotStarted { why, sandbox: None })
    }
}
