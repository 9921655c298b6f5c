//! The executor without Temporal: takes requests through the gate, sees execs through, closes
//! sessions, and takes up after a restart where the last life ended.

use std::sync::Arc;
use std::time::Duration;

use domain::ids::{SessionId, TenantId};
use protocol::exec::{ToolReply, ToolRequest};
use sealing::Key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::calls;
use crate::clock::now_ms;
use crate::control::ControlPlane;
use crate::failpoint;
use crate::grant::Gate;
use crate::grant_keys::GrantKeys;
use crate::journal::{Journal, JournalError};
use crate::report::Reporter;
pub use crate::requests::ExecError;
use crate::requests::Requests;
use crate::run::Workshop;
use crate::runs::Runs;
use crate::sandboxes::{SandboxError, Sandboxes, Site};
use crate::ship::Shipper;
use crate::spool_folder::SpoolFolder;

/// How long the journal remembers what is finished, and what is and nobody could be told of.
const REMEMBERED_MS: u64 = 48 * 60 * 60 * 1000;
const REMEMBERED_UNHEARD_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// How often the control plane hears that we live; it waits for three of them.
const BEAT: Duration = Duration::from_secs(5);
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long the commands of a closing session may take to end by themselves.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

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

/// What an executor is made of.
pub struct Parts {
    /// Where and with what sandboxes are made.
    pub site: Site,
    /// Where output waits for the control plane.
    pub spool: SpoolFolder,
    /// Where output goes.
    pub control: Arc<ControlPlane>,
    /// How long output is offered that the control plane refuses, before it counts as lost.
    pub output_patience: Duration,
    /// The tenant's key.
    pub payload_key: Key,
    /// The control plane's public key at enrolment, Ed25519.
    pub grant_key: [u8; 32],
}

/// See the module. Dropping it stops the work; commands run on in their sandboxes.
pub struct Executor {
    tenant_id: TenantId,
    requests: Arc<Requests>,
    runs: Arc<Runs>,
    sandboxes: Arc<Sandboxes>,
    _pruner: AbortOnDropHandle<()>,
    _refresher: AbortOnDropHandle<()>,
    _beating: AbortOnDropHandle<()>,
    _reporting: AbortOnDropHandle<()>,
    _calls: AbortOnDropHandle<()>,
}

impl Executor {
    /// Takes up what the last life left and is ready for requests.
    ///
    /// # Errors
    /// When Docker or the journal fails.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { site, spool, control, output_patience, payload_key, grant_key } = parts;
        let (executor_id, tenant_id, uid) = (site.executor_id, site.tenant_id, site.uid);
        control.identify(executor_id, site.epoch);
        let journal = site.journal.clone();
        prune(&journal).await;
        spool.sweep(&journal).await?;
        let sandboxes = Arc::new(Sandboxes::new(site));
        sandboxes.recover().await?;
        let runs = Arc::new(Runs::new(Workshop {
            journal: journal.clone(),
            sandboxes: Arc::clone(&sandboxes),
            shipper: Shipper::new(Arc::clone(&control), journal.clone(), output_patience),
            spool,
            uid,
        }));
        let (reporter, late) = Reporter::new(
            executor_id,
            tenant_id,
            payload_key.clone(),
            Arc::clone(&control),
            journal.clone(),
        );
        let left = journal.unreported().await?.into_iter().map(|(exec_id, _)| exec_id).collect();
        let running = runs.recover().await?;
        let reporting = tokio::spawn(reporter.clone().catch_up(late, left, running));
        let beating = tokio::spawn(beat_forever(Arc::clone(&control)));
        let keys = Arc::new(GrantKeys::new(grant_key));
        let refresher = tokio::spawn(Arc::clone(&keys).keep_fresh(Arc::clone(&control)));
        let gate = Gate::new(executor_id, tenant_id, payload_key, Arc::clone(&keys));
        let requests =
            Arc::new(Requests::new(gate, keys, Arc::clone(&control), Arc::clone(&runs), reporter));
        let desk = calls::Desk {
            control,
            requests: Arc::clone(&requests),
            sandboxes: Arc::clone(&sandboxes),
            runs: Arc::clone(&runs),
            orders: calls::Orders::default(),
            shares: calls::Shares::default(),
            uid,
        };
        Ok(Self {
            tenant_id,
            requests,
            runs,
            sandboxes,
            _calls: AbortOnDropHandle::new(tokio::spawn(calls::answer_forever(desk))),
            _refresher: AbortOnDropHandle::new(refresher),
            _beating: AbortOnDropHandle::new(beating),
            _reporting: AbortOnDropHandle::new(reporting),
            _pruner: AbortOnDropHandle::new(tokio::spawn(prune_forever(journal))),
        })
    }

    /// Whose executor this is.
    pub fn tenant_id(&self) -> TenantId {
        self.tenant_id
    }

    /// Whether a successor of this executor has enrolled: it is the one to act.
    pub fn is_fenced(&self) -> bool {
        self.requests.is_fenced()
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
        self.requests.exec(request, cancel).await
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
}

/// Says that we live, until a successor of this executor does.
async fn beat_forever(control: Arc<ControlPlane>) {
    while !control.fence().is_cancelled() {
        if let Err(error) = control.report_alive().await {
            tracing::debug!(%error, "the control plane did not hear that we live");
        }
        tokio::time::sleep(BEAT).await;
    }
}

async fn prune_forever(journal: Journal) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        prune(&journal).await;
    }
}

async fn prune(journal: &Journal) {
    let before = |age_ms| now_ms().saturating_sub(age_ms);
    match journal.prune(before(REMEMBERED_MS), before(REMEMBERED_UNHEARD_MS)).await {
        Ok(execs) => tracing::debug!(execs, "forgotten"),
        Err(error) => tracing::warn!(%error, "the journal could not be pruned"),
    }
}
