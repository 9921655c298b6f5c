//! Results on their way to the control plane, so that a client need not wait for the workflow: sealed,
//! sent, and noted in the journal once they are there. What a life leaves, the next one reports.

use std::sync::Arc;
use std::time::Duration;

use domain::ids::{ExecId, ExecutorId, TenantId};
use domain::sandbox::SandboxRef;
use protocol::exec::{ToolOutcome, ToolReply, ToolReport, reply_context};
use sealing::{Key, SealError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::backoff::Backoff;
use crate::control::{ControlError, ControlPlane};
use crate::failpoint;
use crate::journal::{Journal, JournalError};
use crate::run::RunEnd;
use crate::runs::Ticket;

/// Reports under way at once; more wait for the workflow, or for the next life.
const MAX_REPORTS: usize = 64;
const REPORT_ATTEMPTS: usize = 2;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone)]
pub(crate) struct Reporter {
    executor_id: ExecutorId,
    tenant_id: TenantId,
    payload_key: Key,
    control: Arc<ControlPlane>,
    journal: Journal,
    /// One per report that is under way.
    permits: Arc<Semaphore>,
}

impl Reporter {
    /// Reports what is in `journal` to `control`.
    pub(crate) fn new(
        executor_id: ExecutorId,
        tenant_id: TenantId,
        payload_key: Key,
        control: Arc<ControlPlane>,
        journal: Journal,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_REPORTS));
        Self { executor_id, tenant_id, payload_key, control, journal, permits }
    }

    /// What is said of an exec, sealed for its tenant.
    pub(crate) fn seal(
        &self,
        exec_id: ExecId,
        sandbox: Option<SandboxRef>,
        outcome: ToolOutcome,
    ) -> Result<ToolReply, SealError> {
        let report = ToolReport { executor_id: self.executor_id, sandbox, outcome };
        let context = reply_context(exec_id);
        let report = sealing::seal(&self.payload_key, self.tenant_id, &context, &report)?;
        Ok(ToolReply { report })
    }

    /// Sends the result of a finished exec in the background. Best effort: the activity's answer
    /// counts as much, and the next life tries again.
    pub(crate) fn dispatch(&self, exec_id: ExecId, reply: ToolReply) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return };
        let reporter = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            for _ in 0..REPORT_ATTEMPTS {
                if reporter.send(exec_id, &reply).await {
                    return;
                }
            }
        });
    }

    /// Sends a result. Tells whether nothing is left to do about it.
    async fn send(&self, exec_id: ExecId, reply: &ToolReply) -> bool {
        match self.control.report_result(exec_id, reply).await {
            Ok(()) => failpoint::hit("result_reported"),
            Err(ControlError::Fenced) => return true,
            Err(error) => {
                tracing::debug!(exec = %exec_id, %error, "result not reported directly");
                if error.is_transient() {
                    return false;
                }
            }
        }
        if let Err(error) = self.journal.mark_reported(exec_id).await {
            // Reported once more by the next life, which is harmless.
            tracing::warn!(exec = %exec_id, %error, "reported, but the journal does not know");
        }
        failpoint::hit("report_marked");
        true
    }

    /// Reports what an earlier life left: results, and those of commands that ran on, once they end.
    /// Takes as long as it takes; one that is refused for now keeps back no other.
    pub(crate) async fn catch_up(self, mut left: Vec<ExecId>, running: Vec<(ExecId, Ticket)>) {
        let mut waiting = JoinSet::new();
        for (exec_id, mut ticket) in running {
            waiting.spawn(async move { (exec_id, ticket.wait().await) });
        }
        let mut backoff = Backoff::new(FIRST_WAIT, LAST_WAIT);
        loop {
            let mut refused = Vec::new();
            for exec_id in left {
                if !self.report_left(exec_id).await {
                    refused.push(exec_id);
                }
            }
            left = refused;
            tokio::select! {
                Some(ended) = waiting.join_next() => {
                    if let Ok((exec_id, RunEnd::Finished { .. })) = ended {
                        left.push(exec_id);
                    }
                }
                () = tokio::time::sleep(backoff.next_wait()), if !left.is_empty() => {}
                else => return,
            }
        }
    }

    /// Reports a result of the journal's. Tells whether nothing is left to do about it.
    async fn report_left(&self, exec_id: ExecId) -> bool {
        match self.read_result(exec_id).await {
            Ok(Some(reply)) => self.send(exec_id, &reply).await,
            Ok(None) => true,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(exec = %exec_id, error, "its result cannot be reported");
                true
            }
        }
    }

    async fn read_result(&self, exec_id: ExecId) -> Result<Option<ToolReply>, LeftError> {
        let Some(entry) = self.journal.find(exec_id).await? else { return Ok(None) };
        let Some(result) = self.journal.find_result(exec_id).await? else { return Ok(None) };
        let outcome = ToolOutcome::Finished(result);
        Ok(Some(self.seal(exec_id, Some(entry.sandbox), outcome)?))
    }
}

/// A result in the journal cannot be told.
#[derive(Debug, thiserror::Error)]
enum LeftError {
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    #[error("the report could not be sealed")]
    Seal(#[from] SealError),
}
