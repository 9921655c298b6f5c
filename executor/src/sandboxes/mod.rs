//! The sandboxes of this executor: one per session, made on demand or claimed from a pool, found
//! again after a restart. A container that is gone is replaced on the same workspace; only a lost
//! workspace makes a new generation.

mod error;
mod pool;
mod reaper;
mod site;
mod sweep;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use domain::ids::{SandboxId, SessionId};
use domain::limits::SandboxLimits;
use domain::sandbox::SandboxRef;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::now_ms;
use crate::docker::Found;
use crate::inventory::Inventory;
use crate::journal::SessionRow;
use crate::profile::Purpose;
use crate::sandbox::{Connection, Lease, Sandbox};
use crate::workspace::WorkspaceError;

pub use error::SandboxError;
use pool::Pool;
use site::{Fate, Work, session_name, wait_ready};
pub use site::{Lifecycle, Site};

/// How long PID 1 may take to connect.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a session's sandbox has to be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) session_id: SessionId,
    pub(crate) limits: SandboxLimits,
    /// Digest of its image.
    pub(crate) image: String,
    /// An older one belongs to a time before the session came here; nobody may use it any more.
    pub(crate) min_generation: u32,
}

/// The lock is held while a sandbox is made or stopped.
type Slot = Arc<tokio::sync::Mutex<Berth>>;

/// The sandbox of a session, if it has one.
#[derive(Default)]
struct Berth {
    sandbox: Option<Arc<Sandbox>>,
    /// The session closes: no more commands go to its sandbox.
    closed: bool,
}

/// See the module. Dropping it ends its tasks; containers live on.
pub(crate) struct Sandboxes {
    harbour: Arc<Harbour>,
    tasks: OnceLock<[AbortOnDropHandle<()>; 2]>,
}

/// What the tasks share.
struct Harbour {
    site: Site,
    inventory: Inventory,
    pool: Pool,
    slots: Mutex<HashMap<SessionId, Slot>>,
}

impl Sandboxes {
    /// None yet.
    pub(crate) fn new(site: Site) -> Self {
        let pool = Pool::new(site.lifecycle.pool_size);
        let (inventory, slots) = (Inventory::default(), Mutex::default());
        let harbour = Harbour { site, inventory, pool, slots };
        Self { harbour: Arc::new(harbour), tasks: OnceLock::new() }
    }

    /// The session's sandbox, ready to run commands, and the right to use it until the lease is
    /// dropped.
    pub(crate) async fn get_or_create(
        &self,
        wanted: Wanted,
    ) -> Result<(Lease, Connection), SandboxError> {
        let harbour = Arc::clone(&self.harbour);
        let image = wanted.image.clone();
        // A task of its own: a caller that is called off must not leave half a sandbox behind.
        let made = tokio::spawn(async move { harbour.get_or_create(&wanted).await });
        let (lease, connection) = made.await.map_err(|_| SandboxError::Interrupted)??;
        if lease.image_digest != image {
            return Err(SandboxError::OtherImage);
        }
        Ok((lease, connection))
    }

    /// The session's sandbox, if it is this very one.
    pub(crate) async fn find(&self, session: SessionId, id: SandboxId) -> Option<Lease> {
        let slot = self.harbour.slot(session);
        let berth = slot.lock().await;
        berth.sandbox.as_ref().filter(|sandbox| sandbox.id() == id).map(Sandbox::lease)
    }

    /// Ends a container that cannot be trusted any more, at once for everybody who uses it: what
    /// runs in it is lost, and the next command gets another container on the same workspace. The
    /// future does the removal, which may take a while or fail; the next command tries it again.
    pub(crate) fn give_up(&self, sandbox: &Sandbox) -> impl Future<Output = ()> + Send + use<> {
        sandbox.mark_stopped();
        let (id, container) = (sandbox.id(), sandbox.container().to_owned());
        let docker = self.harbour.site.docker.clone();
        async move {
            if let Err(error) = docker.remove(&container).await {
                tracing::warn!(sandbox = %id, %error, "its container stays behind for now");
            }
        }
    }

    /// Writes that the session is closed: from now on no command gets a sandbox there.
    pub(crate) async fn mark_closed(&self, session_id: SessionId) -> Result<(), SandboxError> {
        let slot = self.harbour.slot(session_id);
        let mut berth = slot.lock().await;
        let journal = &self.harbour.site.journal;
        let row = journal.find_session(session_id).await.map_err(SandboxError::Journal)?;
        let row = row.unwrap_or_default();
        if row.closed_at_ms.is_none() {
            let row = SessionRow { closed_at_ms: Some(now_ms()), ..row };
            let written = journal.record_session(session_id, &row).await;
            written.map_err(SandboxError::Journal)?;
        }
        berth.closed = true;
        Ok(())
    }

    /// Removes a closed session's sandbox and workspace. What is gone already is no failure.
    pub(crate) async fn remove(&self, session_id: SessionId) -> Result<(), SandboxError> {
        self.harbour.remove(session_id).await
    }

    /// Finds the containers of an earlier life, takes the living over, removes the rest, and begins
    /// to look after them all.
    pub(crate) async fn recover(&self) -> Result<(), SandboxError> {
        self.harbour.recover().await?;
        self.harbour.sweep().await;
        let (filler, reaper) = (Arc::clone(&self.harbour), Arc::clone(&self.harbour));
        let filler = async move { filler.pool.refill(&filler.site, &filler.inventory).await };
        let reaper = async move { reaper.reap_forever().await };
        let tasks = [tokio::spawn(filler), tokio::spawn(reaper)].map(AbortOnDropHandle::new);
        let _ = self.tasks.set(tasks);
        Ok(())
    }
}

impl Harbour {
    async fn get_or_create(&self, wanted: &Wanted) -> Result<(Lease, Connection), SandboxError> {
        let slot = self.slot(wanted.session_id);
        let mut berth = slot.lock().await;
        if berth.closed {
            return Err(SandboxError::Closed);
        }
        if let Some(sandbox) = berth.sandbox.clone() {
            if sandbox.reference().generation < wanted.min_generation {
                // What still runs in it was given up when the session was moved.
                sandbox.mark_removed();
                self.put_away(&sandbox).await;
            } else {
                let lease = sandbox.lease();
                match wait_ready(&sandbox).await {
                    Err(SandboxError::Gone) => self.put_away(&sandbox).await,
                    Err(SandboxError::NotReady) if sandbox.is_forsaken() => {
                        tracing::error!(sandbox = %sandbox.id(), "its PID 1 never came back");
                        sandbox.mark_removed();
                        self.put_away(&sandbox).await;
                    }
                    ready => return ready.map(|connection| (lease, connection)),
                }
            }
            berth.sandbox = None;
        }
        let (sandbox, connection) = self.renew(wanted).await?;
        let lease = sandbox.lease();
        berth.sandbox = Some(sandbox);
        Ok((lease, connection))
    }

    /// A container for a session that has none, on the workspace that it has, or on a new one.
    async fn renew(&self, wanted: &Wanted) -> Result<(Arc<Sandbox>, Connection), SandboxError> {
        let Wanted { session_id, limits, ref image, min_generation } = *wanted;
        let journal = &self.site.journal;
        let row = journal.find_session(session_id).await.map_err(SandboxError::Journal)?;
        let row = row.unwrap_or_default();
        if row.closed_at_ms.is_some() {
            return Err(SandboxError::Closed);
        }
        let (generation, work) = self.workspace_of(session_id, &row, min_generation).await?;
        let usual = limits == SandboxLimits::default() && *image == self.site.default_image;
        let claimed = match work {
            Work::New if usual => self.pool.claim(),
            _ => None,
        };
        let (sandbox, connection) = match claimed {
            Some(sandbox) => {
                let connection = wait_ready(&sandbox).await?;
                (sandbox, connection)
            }
            None => {
                let _cold = self.pool.begin_cold();
                let purpose = Purpose::Session(session_id, generation);
                let (site, inventory) = (&self.site, &self.inventory);
                let (made, connection) = site.make(inventory, purpose, limits, image, work).await?;
                (Arc::new(made), connection)
            }
        };
        sandbox.give(generation);
        let row = SessionRow {
            sandbox: Some(sandbox.reference()),
            workspace: sandbox.workspace(),
            closed_at_ms: None,
        };
        if let Err(error) = journal.record_session(session_id, &row).await {
            // What it was made on may be an older workspace of the session: that one stays.
            sandbox.mark_removed();
            let (id, container) = (sandbox.id(), sandbox.container());
            self.site.clear_away(id, container, sandbox.workspace(), Fate::Keep).await;
            return Err(SandboxError::Journal(error));
        }
        self.rename(session_id, &sandbox);
        tracing::info!(session = %session_id, sandbox = %sandbox.id(), generation, "has a sandbox");
        Ok((sandbox, connection))
    }

    /// What a session's next container works on, and which generation that is.
    async fn workspace_of(
        &self,
        session_id: SessionId,
        row: &SessionRow,
        min_generation: u32,
    ) -> Result<(u32, Work), SandboxError> {
        let Some(last) = row.sandbox else { return Ok((min_generation.max(1), Work::New)) };
        let next = last.generation.saturating_add(1).max(min_generation);
        if last.generation < min_generation {
            // Its files are of another time. The sweep deletes what no session's row names.
            return Ok((next, Work::New));
        }
        let Some(workspace) = row.workspace else { return Ok((next, Work::New)) };
        let hold = self.site.workspaces.hold(workspace);
        match self.site.workspaces.attach(workspace).await {
            Ok(device) => Ok((last.generation, Work::Again(hold, device))),
            Err(WorkspaceError::Lost) => {
                tracing::error!(session = %session_id, "its workspace is lost");
                Ok((next, Work::New))
            }
            Err(error) => Err(SandboxError::Workspace(error)),
        }
    }

    /// For whoever reads `docker ps`: nothing depends on it.
    fn rename(&self, session_id: SessionId, sandbox: &Sandbox) {
        let SandboxRef { id, generation } = sandbox.reference();
        let (docker, container) = (self.site.docker.clone(), sandbox.container().to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(pool::CALM).await;
            let name = session_name(id, session_id, generation);
            if let Err(error) = docker.rename(&container, &name).await {
                tracing::debug!(sandbox = %id, %error, "keeps its name");
            }
        });
    }

    /// Takes apart a container that is gone or shall go; its workspace stays for the next one.
    async fn put_away(&self, sandbox: &Sandbox) {
        let (id, container) = (sandbox.id(), sandbox.container());
        self.site.clear_away(id, container, sandbox.workspace(), Fate::Keep).await;
    }

    async fn remove(&self, session_id: SessionId) -> Result<(), SandboxError> {
        let slot = self.slot(session_id);
        let mut berth = slot.lock().await;
        let row = self.site.journal.find_session(session_id).await;
        let workspace = row.map_err(SandboxError::Journal)?.and_then(|row| row.workspace);
        if let Some(sandbox) = &berth.sandbox {
            sandbox.mark_removed();
            let workspace = sandbox.workspace().or(workspace);
            let (id, container) = (sandbox.id(), sandbox.container());
            self.site.dispose(id, container, workspace, Fate::Delete).await?;
        } else if let Some(workspace) = workspace {
            let deleted = self.site.workspaces.delete(workspace).await;
            deleted.map_err(SandboxError::Workspace)?;
        }
        berth.sandbox = None;
        lock(&self.slots).remove(&session_id);
        Ok(())
    }

    async fn recover(&self) -> Result<(), SandboxError> {
        let site = &self.site;
        // All of these paths are equally long: better to fail now than with the first command.
        site.socket_path(uuid::Uuid::now_v7().into())?;
        let found = site.docker.list(site.executor_id).await.map_err(SandboxError::Docker)?;
        let rows = site.journal.sessions().await.map_err(SandboxError::Journal)?;
        let owners: HashMap<SandboxId, (SessionId, SessionRow)> = rows
            .into_iter()
            .filter_map(|(session, row)| Some((row.sandbox?.id, (session, row))))
            .collect();
        let recipe = site.pool_recipe();
        let mut kept = 0;
        for container in found {
            let owner = container.sandbox_id.and_then(|id| owners.get(&id));
            let adopted = match owner {
                Some((session, row)) => self.adopt(&container, *session, row).await?,
                None => self.adopt_into_pool(&container, &recipe).await?,
            };
            if adopted {
                kept += 1;
            } else {
                tracing::info!(container = %container.name, "removing a leftover container");
                site.docker.remove(&container.id).await.map_err(SandboxError::Docker)?;
            }
        }
        tracing::info!(sandboxes = kept, "sandboxes of an earlier life taken over");
        Ok(())
    }

    /// The newest container of an open session, if it runs.
    async fn adopt(
        &self,
        found: &Found,
        session_id: SessionId,
        row: &SessionRow,
    ) -> Result<bool, SandboxError> {
        let Some(reference) = row.sandbox else { return Ok(false) };
        if !found.running || row.closed_at_ms.is_some() {
            return Ok(false);
        }
        let finished = self.site.journal.finished_in(reference.id).await;
        let finished = finished.map_err(SandboxError::Journal)?;
        let (inventory, workspace) = (&self.inventory, row.workspace);
        let adopted = self.site.adopt(inventory, found, reference.id, workspace, finished).await?;
        let Some(sandbox) = adopted else { return Ok(false) };
        sandbox.give(reference.generation);
        let slot = self.slot(session_id);
        slot.lock().await.sandbox = Some(Arc::new(sandbox));
        Ok(true)
    }

    /// A container that no session has claimed, if we would make it the same way today.
    async fn adopt_into_pool(&self, found: &Found, recipe: &str) -> Result<bool, SandboxError> {
        let Some(id) = found.sandbox_id else { return Ok(false) };
        if !found.running || found.pool.as_deref() != Some(recipe) {
            return Ok(false);
        }
        let workspace = self.site.find_workspace(id);
        if workspace.is_none() && self.site.workspaces.on_disk() {
            return Ok(false);
        }
        let adopted = self.site.adopt(&self.inventory, found, id, workspace, Vec::new()).await?;
        Ok(adopted.is_some_and(|sandbox| self.pool.adopt(sandbox)))
    }

    fn slot(&self, session_id: SessionId) -> Slot {
        Arc::clone(lock(&self.slots).entry(session_id).or_default())
    }
}

/// A panic elsewhere leaves the map whole: every change is a single call.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
