//! Results on their way to the control plane, so that a client need not wait for the workflow: sealed,
//! sent until they are heard, and noted in the journal then. What a life leaves, the next one reports.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::{ExecId, ExecutorId, TenantId};
use domain::sandbox::SandboxRef;
use protocol::exec::{ToolOutcome, ToolReply, ToolReport, reply_context};
use sealing::{Key, SealError};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::control::{ControlError, ControlPlane};
use crate::failpoint;
use crate::journal::{Journal, JournalError};
use crate::run::RunEnd;
use crate::runs::Ticket;

/// Reports under way at once; more wait for their turn.
const MAX_REPORTS: usize = 64;
const REPORT_ATTEMPTS: usize = 2;
/// Results that wait to be offered again; more wait for the next life.
const MAX_LATE: usize = 4096;
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
    /// Those that were not heard at once.
    late: mpsc::Sender<ExecId>,
}

/// What [`Reporter::catch_up`] works on.
pub(crate) struct Late(mpsc::Receiver<ExecId>);

impl Reporter {
    /// Reports what is in `journal` to `control`.
    pub(crate) fn new(
        executor_id: ExecutorId,
        tenant_id: TenantId,
        payload_key: Key,
        control: Arc<ControlPlane>,
        journal: Journal,
    ) -> (Self, Late) {
        let permits = Arc::new(Semaphore::new(MAX_REPORTS));
        let (late, later) = mpsc::channel(MAX_LATE);
        (Self { executor_id, tenant_id, payload_key, control, journal, permits, late }, Late(later))
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

    /// Sends the result of a finished exec, which is in the journal, in the background. What is not
    /// heard at once is offered again, by the next life too.
    pub(crate) fn dispatch(&self, exec_id: ExecId, reply: ToolReply) {
        let reporter = self.clone();
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return reporter.put_off(exec_id);
        };
        tokio::spawn(async move {
            let _permit = permit;
            for _ in 0..REPORT_ATTEMPTS {
                if reporter.send(exec_id, &reply).await {
                    return;
                }
            }
            reporter.put_off(exec_id);
        });
    }

    fn put_off(&self, exec_id: ExecId) {
        if self.late.try_send(exec_id).is_err() {
            tracing::debug!(exec = %exec_id, "too many results wait: the next start reports it");
        }
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

    /// Reports what was not heard at once, what an earlier life left, and the results of its commands
    /// that ran on, once they end. For ever; one that is refused for now keeps back no other.
    pub(crate) async fn catch_up(
        self,
        mut late: Late,
        left: Vec<ExecId>,
        running: Vec<(ExecId, Ticket)>,
    ) {
        let mut left = VecDeque::from(left);
        let mut waiting = JoinSet::new();
        for (exec_id, mut ticket) in running {
            waiting.spawn(async move { (exec_id, ticket.wait().await) });
        }
        let mut backoff = Backoff::new(FIRST_WAIT, LAST_WAIT);
        let mut next_round = Instant::now();
        loop {
            tokio::select! {
                Some(ended) = waiting.join_next() => {
                    if let Ok((exec_id, RunEnd::Finished { .. })) = ended {
                        if left.is_empty() {
                            next_round = Instant::now();
                        }
                        left.push_back(exec_id);
                    }
                }
                Some(exec_id) = late.0.recv() => {
                    if left.is_empty() {
                        next_round = Instant::now() + backoff.next_wait();
                    }
                    left.push_back(exec_id);
                }
                () = tokio::time::sleep_until(next_round), if !left.is_empty() => {
                    self.report_until_refused(&mut left, &mut backoff).await;
                    next_round = Instant::now() + backoff.next_wait();
                }
            }
        }
    }

    /// One after the other; the one that is refused comes last the next time.
    async fn report_until_refused(&self, left: &mut VecDeque<ExecId>, backoff: &mut Backoff) {
        while let Some(exec_id) = left.pop_front() {
            if !self.report_left(exec_id).await {
                return left.push_back(exec_id);
            }
            backoff.reset();
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
