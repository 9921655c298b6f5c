//! What the control plane asks of an executor about an exec, whichever way it asks: through the
//! gate, to the one run of that exec, and back as a sealed reply. Starts nothing by itself.

use std::sync::Arc;

use protocol::exec::{Intent, NotStarted, ToolOutcome, ToolReply, ToolRequest};
use sealing::SealError;
use tokio_util::sync::CancellationToken;

use crate::clock::now_s;
use crate::control::ControlPlane;
use crate::failpoint;
use crate::grant::{Gate, Refusal};
use crate::grant_keys::GrantKeys;
use crate::report::Reporter;
use crate::run::{Job, RunEnd};
use crate::runs::{Runs, Ticket};

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
    gate: Gate,
    keys: Arc<GrantKeys>,
    control: Arc<ControlPlane>,
    runs: Arc<Runs>,
    reporter: Reporter,
}

impl Requests {
    /// Requests about the execs of `runs`, checked by `gate` against the control plane's public
    /// `keys`.
    pub(crate) fn new(
        gate: Gate,
        keys: Arc<GrantKeys>,
        control: Arc<ControlPlane>,
        runs: Arc<Runs>,
        reporter: Reporter,
    ) -> Self {
        Self { gate, keys, control, runs, reporter }
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
        let reply = self.reporter.seal(request.exec_id, sandbox, outcome)?;
        if finished {
            self.reporter.dispatch(request.exec_id, reply.clone());
        }
        failpoint::hit("reply_made");
        Ok(reply)
    }

    fn reply_not_started(
        &self,
        request: &ToolRequest,
        why: NotStarted,
    ) -> Result<ToolReply, ExecError> {
        self.reply(request, RunEnd::NotStarted { why, sandbox: None })
    }
}
