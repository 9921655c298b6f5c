//! The executor without Temporal: takes requests through the gate, sees execs through, closes
//! sessions, and takes up after a restart where the last life ended.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::{ExecId, ExecutorId, SessionId, TenantId};
use protocol::exec::{
    Intent, NotStarted, ToolOutcome, ToolReply, ToolReport, ToolRequest, reply_context,
};
use sealing::{Key, SealError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::calls;
use crate::clock::{now_ms, now_s};
use crate::control::ControlPlane;
use crate::failpoint;
use crate::grant::Gate;
use crate::journal::{Journal, JournalError};
use crate::run::{Job, RunEnd, Workshop};
use crate::runs::{Runs, Ticket};
use crate::sandboxes::{SandboxError, Sandboxes, Site};
use crate::ship::Shipper;
use crate::spool::sweep_spool;

/// How long the journal remembers what is finished.
const REMEMBERED_MS: u64 = 48 * 60 * 60 * 1000;
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long the commands of a closing session may take to end by themselves.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Reports under way at once; more wait for the workflow like everything did before.
const MAX_REPORTS: usize = 64;
const REPORT_ATTEMPTS: usize = 2;

/// The executor could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal failed.
    #[error("the journal cannot be read")]
    Journal(#[from] JournalError),
    /// The sandboxes of the last life could not be taken over.
    #[error("the sandboxes of the last run could not be taken over")]
    Sandboxes(#[from] SandboxError),
}

/// Nothing can be said of an exec now; ask again.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Something of ours failed; the log says what.
    #[error("the executor could not see the command through; it will try again")]
    Failed,
    /// The report could not be sealed.
    #[error("the report could not be sealed")]
    Seal(#[from] SealError),
    /// A successor of this executor has enrolled; it is the one to ask.
    #[error("another start of this executor has taken over")]
    Fenced,
}

/// What an executor is made of.
pub struct Parts {
    /// Where and with what sandboxes are made.
    pub site: Site,
    /// Folder of the spool files.
    pub spool_dir: PathBuf,
    /// Where output goes.
    pub control: Arc<ControlPlane>,
    /// The tenant's key.
    pub payload_key: Key,
    /// The control plane's public key, Ed25519.
    pub grant_key: [u8; 32],
}

/// See the module. Dropping it stops the work; commands run on in their sandboxes.
pub struct Executor {
    executor_id: ExecutorId,
    tenant_id: TenantId,
    payload_key: Key,
    gate: Gate,
    control: Arc<ControlPlane>,
    runs: Arc<Runs>,
    sandboxes: Arc<Sandboxes>,
    /// One per report that is under way.
    reporters: Arc<Semaphore>,
    _pruner: AbortOnDropHandle<()>,
    _calls: AbortOnDropHandle<()>,
}

impl Executor {
    /// Takes up what the last life left and is ready for requests.
    ///
    /// # Errors
    /// When Docker or the journal fails.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { site, spool_dir, control, payload_key, grant_key } = parts;
        let (executor_id, tenant_id, uid) = (site.executor_id, site.tenant_id, site.uid);
        control.identify(executor_id, site.epoch);
        let journal = site.journal.clone();
        prune(&journal).await;
        sweep_spool(&spool_dir, &journal).await?;
        let sandboxes = Arc::new(Sandboxes::new(site));
        sandboxes.recover().await?;
        let runs = Arc::new(Runs::new(Workshop {
            journal: journal.clone(),
            sandboxes: Arc::clone(&sandboxes),
            shipper: Shipper::new(Arc::clone(&control), journal.clone()),
            spool_dir,
            uid,
        }));
        runs.recover().await?;
        let desk = calls::Desk {
            control: Arc::clone(&control),
            sandboxes: Arc::clone(&sandboxes),
            runs: Arc::clone(&runs),
            uid,
        };
        Ok(Self {
            executor_id,
            tenant_id,
            gate: Gate::new(executor_id, tenant_id, payload_key.clone(), grant_key),
            payload_key,
            control,
            runs,
            sandboxes,
            reporters: Arc::new(Semaphore::new(MAX_REPORTS)),
            _calls: AbortOnDropHandle::new(tokio::spawn(calls::answer_forever(desk))),
            _pruner: AbortOnDropHandle::new(tokio::spawn(prune_forever(journal))),
        })
    }

    /// Whose executor this is.
    pub fn tenant_id(&self) -> TenantId {
        self.tenant_id
    }

    /// Whether a successor of this executor has enrolled: it is the one to act.
    pub fn is_fenced(&self) -> bool {
        self.control.fence().is_cancelled()
    }

    /// Does what a request wants: runs a granted command, joins it, answers from the journal, or
    /// settles it for ever. `cancel` calls a run off.
    ///
    /// # Errors
    /// When nothing true can be said now.
    pub async fn exec(
        &self,
        request: &ToolRequest,
        cancel: &CancellationToken,
    ) -> Result<ToolReply, ExecError> {
        loop {
            if self.is_fenced() {
                return Err(ExecError::Fenced);
            }
            let Some(ticket) = self.take_ticket(request, cancel.is_cancelled()) else {
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
    fn take_ticket(&self, request: &ToolRequest, called_off: bool) -> Option<Ticket> {
        let exec = request.exec_id;
        let admitted = match self.gate.admit(request, now_s()) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let reason = &refusal as &dyn std::error::Error;
                tracing::warn!(%exec, reason, "refused");
                return None;
            }
        };
        let session_id = admitted.order.session_id;
        let job = Job {
            exec_id: exec,
            intent: request.intent,
            order: Some(admitted.order),
            order_sha256: admitted.order_sha256,
            expired: admitted.expired,
            cancel: CancellationToken::new(),
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
        ticket
    }

    /// Removes a session's sandbox for ever; what runs in it is called off first.
    ///
    /// # Errors
    /// When Docker or the journal fails; safe to repeat.
    pub async fn close(&self, session_id: SessionId) -> Result<(), SandboxError> {
        failpoint::hit("before_close");
        // First, so that nothing is started any more while the rest is called off.
        self.sandboxes.mark_closed(session_id).await?;
        failpoint::hit("close_marked");
        let tickets = self.runs.of_session(session_id);
        for ticket in &tickets {
            ticket.cancel();
        }
        let ended = async {
            for mut ticket in tickets {
                ticket.wait().await;
            }
        };
        if tokio::time::timeout(CLOSE_GRACE, ended).await.is_err() {
            tracing::warn!(session = %session_id, "closing it although commands still run");
        }
        failpoint::hit("close_emptied");
        self.sandboxes.remove(session_id).await?;
        failpoint::hit("sandbox_removed");
        Ok(())
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

async fn prune_forever(journal: Journal) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        prune(&journal).await;
    }
}

async fn prune(journal: &Journal) {
    match journal.prune(now_ms().saturating_sub(REMEMBERED_MS)).await {
        Ok(execs) => tracing::debug!(execs, "forgotten"),
        Err(error) => tracing::warn!(%error, "the journal could not be pruned"),
    }
}
