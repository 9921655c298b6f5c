//! The sandboxes of this executor: one per session, made on demand, found again after a restart,
//! with a new generation when the old one's state was lost.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::ids::{ExecutorId, SandboxId, SessionId, TenantId};
use domain::limits::SandboxLimits;
use domain::sandbox::SandboxRef;
use tokio::net::UnixListener;
use tokio::time::timeout;

use crate::clock::now_ms;
use crate::data_dir::{DataDirError, create_private};
use crate::docker::{Container, Docker, DockerError, Found};
use crate::journal::{Journal, JournalError, SessionRow};
use crate::profile::{self, Blueprint};
use crate::sandbox::{Connection, Sandbox, container_name};

/// The kernel's limit for a socket's path, in bytes (`sun_path` less its NUL).
const MAX_SOCKET_PATH: usize = 107;
/// How long PID 1 may take to connect.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// No sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A folder for the socket could not be made.
    #[error("no folder for the sandbox's socket")]
    Folder(#[source] DataDirError),
    /// The socket could not be opened.
    #[error("cannot listen at {path}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The socket's path is longer than the kernel allows.
    #[error("the socket path {0} is longer than 107 bytes: set BULKHEAD_RUN_DIR to a shorter one")]
    PathTooLong(PathBuf),
    /// Docker failed.
    #[error("Docker failed")]
    Docker(#[source] DockerError),
    /// The journal failed.
    #[error("the journal failed")]
    Journal(#[source] JournalError),
    /// PID 1 did not connect.
    #[error("the sandbox did not connect within {} s", READY_TIMEOUT.as_secs())]
    NotReady,
    /// It died while it was waited for.
    #[error("the sandbox is gone")]
    Gone,
    /// The session's sandbox is made of another image.
    #[error("the session's sandbox is made of another image")]
    OtherImage,
    /// The session was closed: it gets no sandbox any more.
    #[error("the session is closed")]
    Closed,
    /// The task that made it was ended.
    #[error("the sandbox's creation was interrupted")]
    Interrupted,
}

/// What all sandboxes of an executor share.
pub struct Site {
    /// Docker.
    pub docker: Docker,
    /// The journal.
    pub journal: Journal,
    /// This executor.
    pub executor_id: ExecutorId,
    /// Of this start of it.
    pub epoch: u64,
    /// Its tenant.
    pub tenant_id: TenantId,
    /// The uid of the tenant's commands.
    pub uid: u32,
    /// Short folder for sockets.
    pub run_dir: PathBuf,
    /// PID 1's program on this host.
    pub init_program: PathBuf,
}

/// The lock is held while a sandbox is made.
type Slot = Arc<tokio::sync::Mutex<Berth>>;

/// The sandbox of a session, if it has one.
#[derive(Default)]
struct Berth {
    sandbox: Option<Arc<Sandbox>>,
    /// The session closes: no more commands go to its sandbox.
    closed: bool,
}

/// See the module.
pub(crate) struct Sandboxes {
    site: Arc<Site>,
    slots: Mutex<HashMap<SessionId, Slot>>,
}

impl Sandboxes {
    /// None yet.
    pub(crate) fn new(site: Site) -> Self {
        Self { site: Arc::new(site), slots: Mutex::default() }
    }

    /// The session's sandbox, ready to run commands.
    pub(crate) async fn get_or_create(
        &self,
        session_id: SessionId,
        limits: SandboxLimits,
        image_digest: &str,
    ) -> Result<(Arc<Sandbox>, Connection), SandboxError> {
        let slot = self.slot(session_id);
        let site = Arc::clone(&self.site);
        let image = image_digest.to_owned();
        // A task of its own: a caller that is called off must not leave half a sandbox behind.
        let made = tokio::spawn(async move {
            let mut slot = slot.lock().await;
            if slot.closed {
                return Err(SandboxError::Closed);
            }
            if let Some(sandbox) = slot.sandbox.clone() {
                match wait_ready(&sandbox).await {
                    Err(SandboxError::Gone) => site.clear_away(sandbox.reference()).await,
                    ready => return ready.map(|connection| (sandbox, connection)),
                }
                slot.sandbox = None;
            }
            let (sandbox, connection) = site.create(session_id, limits, image).await?;
            slot.sandbox = Some(Arc::clone(&sandbox));
            Ok((sandbox, connection))
        });
        let (sandbox, connection) = made.await.map_err(|_| SandboxError::Interrupted)??;
        if sandbox.image_digest != image_digest {
            return Err(SandboxError::OtherImage);
        }
        Ok((sandbox, connection))
    }

    /// The session's sandbox, if it is this very one.
    pub(crate) async fn find(&self, session: SessionId, id: SandboxId) -> Option<Arc<Sandbox>> {
        let slot = self.slot(session);
        let sandbox = slot.lock().await.sandbox.clone();
        sandbox.filter(|sandbox| sandbox.reference().id == id)
    }

    /// Ends a sandbox that cannot be trusted any more. What runs in it is lost.
    pub(crate) async fn kill(&self, sandbox: SandboxRef) {
        if let Err(error) = self.site.docker.remove(&container_name(sandbox)).await {
            tracing::warn!(sandbox = %sandbox.id, %error, "its container stays behind");
        }
    }

    /// Writes that the session is closed: from now on no command gets a sandbox there.
    pub(crate) async fn mark_closed(&self, session_id: SessionId) -> Result<(), SandboxError> {
        let slot = self.slot(session_id);
        let mut slot = slot.lock().await;
        let row =
            self.site.journal.find_session(session_id).await.map_err(SandboxError::Journal)?;
        let row = row.unwrap_or(SessionRow { sandbox: None, closed_at_ms: None });
        if row.closed_at_ms.is_none() {
            let row = SessionRow { closed_at_ms: Some(now_ms()), ..row };
            let written = self.site.journal.record_session(session_id, &row).await;
            written.map_err(SandboxError::Journal)?;
        }
        slot.closed = true;
        Ok(())
    }

    /// Removes a closed session's sandbox. One that is gone already is no failure.
    pub(crate) async fn remove(&self, session_id: SessionId) -> Result<(), SandboxError> {
        let slot = self.slot(session_id);
        let mut slot = slot.lock().await;
        let row =
            self.site.journal.find_session(session_id).await.map_err(SandboxError::Journal)?;
        let sandbox = slot.sandbox.take();
        let known = row.and_then(|row| row.sandbox);
        let reference = sandbox.as_ref().map(|sandbox| sandbox.reference()).or(known);
        if let Some(sandbox) = &sandbox {
            sandbox.mark_removed();
        }
        if let Some(reference) = reference {
            let name = container_name(reference);
            self.site.docker.remove(&name).await.map_err(SandboxError::Docker)?;
            self.site.remove_folder(reference.id);
        }
        lock(&self.slots).remove(&session_id);
        Ok(())
    }

    /// Finds the containers of an earlier life, takes the living over and removes the rest.
    pub(crate) async fn recover(&self) -> Result<(), SandboxError> {
        // All of these paths are equally long: better to fail now than with the first command.
        self.site.socket_path(uuid::Uuid::now_v7().into())?;
        let found =
            self.site.docker.list(self.site.executor_id).await.map_err(SandboxError::Docker)?;
        let mut kept = Vec::new();
        for container in found {
            match self.site.adopt(&container).await? {
                Some(sandbox) => {
                    kept.push(sandbox.reference().id);
                    let slot = self.slot(sandbox.session_id);
                    slot.lock().await.sandbox = Some(Arc::new(sandbox));
                }
                None => {
                    tracing::info!(container = %container.name, "removing a leftover container");
                    let removed = self.site.docker.remove(&container.name).await;
                    removed.map_err(SandboxError::Docker)?;
                }
            }
        }
        tracing::info!(sandboxes = kept.len(), "sandboxes of an earlier life taken over");
        self.site.sweep_folders(&kept);
        Ok(())
    }

    fn slot(&self, session_id: SessionId) -> Slot {
        Arc::clone(lock(&self.slots).entry(session_id).or_default())
    }
}

impl Site {
    async fn create(
        &self,
        session_id: SessionId,
        limits: SandboxLimits,
        image_digest: String,
    ) -> Result<(Arc<Sandbox>, Connection), SandboxError> {
        let row = self.journal.find_session(session_id).await.map_err(SandboxError::Journal)?;
        if row.is_some_and(|row| row.closed_at_ms.is_some()) {
            return Err(SandboxError::Closed);
        }
        let last = row.and_then(|row| row.sandbox);
        let generation = last.map_or(1, |sandbox| sandbox.generation.saturating_add(1));
        let id = SandboxId::from(uuid::Uuid::now_v7());
        let reference = SandboxRef { id, generation };
        let listener = self.listen(id)?;
        let body = profile::container(&Blueprint {
            executor_id: self.executor_id,
            tenant_id: self.tenant_id,
            session_id,
            sandbox: reference,
            limits,
            uid: self.uid,
            image_digest: &image_digest,
            control_folder: &self.folder(id),
            init_program: &self.init_program,
        });
        let name = container_name(reference);
        let started = async {
            self.docker.run(&name, body).await?;
            self.docker.inspect(&name).await
        };
        let pid = match started.await {
            Ok(Container::Running(pid)) => pid,
            Ok(_) => {
                self.clear_away(reference).await;
                return Err(SandboxError::Gone);
            }
            Err(error) => {
                self.clear_away(reference).await;
                return Err(SandboxError::Docker(error));
            }
        };
        let docker = self.docker.clone();
        let sandbox = Sandbox::new(
            session_id,
            reference,
            image_digest,
            docker,
            self.epoch,
            listener,
            pid,
            Vec::new(),
        );
        let connection = match wait_ready(&sandbox).await {
            Ok(connection) => connection,
            Err(error) => {
                self.clear_away(reference).await;
                return Err(error);
            }
        };
        let row = SessionRow { sandbox: Some(reference), closed_at_ms: None };
        if let Err(error) = self.journal.record_session(session_id, &row).await {
            self.clear_away(reference).await;
            return Err(SandboxError::Journal(error));
        }
        tracing::info!(session = %session_id, sandbox = %id, generation, "sandbox made");
        Ok((Arc::new(sandbox), connection))
    }

    /// A container of an earlier life, if it is its session's newest and runs.
    async fn adopt(&self, container: &Found) -> Result<Option<Sandbox>, SandboxError> {
        let Some((session_id, reference)) = container.sandbox.filter(|_| container.running) else {
            return Ok(None);
        };
        let row = self.journal.find_session(session_id).await.map_err(SandboxError::Journal)?;
        // Without a row nothing has run in it: it was being made when we died.
        if row.is_none_or(|row| row.sandbox != Some(reference) || row.closed_at_ms.is_some()) {
            return Ok(None);
        }
        let state = self.docker.inspect(&container.name).await.map_err(SandboxError::Docker)?;
        let Container::Running(pid) = state else { return Ok(None) };
        let finished =
            self.journal.finished_in(reference.id).await.map_err(SandboxError::Journal)?;
        let listener = self.listen(reference.id)?;
        let (docker, image) = (self.docker.clone(), container.image_digest.clone());
        Ok(Some(Sandbox::new(
            session_id, reference, image, docker, self.epoch, listener, pid, finished,
        )))
    }

    fn listen(&self, id: SandboxId) -> Result<UnixListener, SandboxError> {
        let folder = self.folder(id);
        let path = self.socket_path(id)?;
        create_private(&folder).map_err(SandboxError::Folder)?;
        // One of an earlier life would make the bind fail.
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(&path).map_err(|source| SandboxError::Listen { path, source })
    }

    fn socket_path(&self, id: SandboxId) -> Result<PathBuf, SandboxError> {
        let path = self.folder(id).join("executor.sock");
        let fits = path.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH;
        if fits { Ok(path) } else { Err(SandboxError::PathTooLong(path)) }
    }

    fn executor_folder(&self) -> PathBuf {
        let id = self.executor_id.to_string();
        // The random end of the id; its beginning is a time.
        self.run_dir.join(&id[id.len() - 12..])
    }

    fn folder(&self, id: SandboxId) -> PathBuf {
        self.executor_folder().join(id.to_string())
    }

    fn remove_folder(&self, id: SandboxId) {
        remove_tree(&self.folder(id));
    }

    async fn clear_away(&self, reference: SandboxRef) {
        if let Err(error) = self.docker.remove(&container_name(reference)).await {
            tracing::warn!(sandbox = %reference.id, %error, "its container stays behind");
        }
        self.remove_folder(reference.id);
    }

    fn sweep_folders(&self, kept: &[SandboxId]) {
        let Ok(entries) = std::fs::read_dir(self.executor_folder()) else { return };
        for entry in entries.flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if id.is_none_or(|id| !kept.contains(&id)) {
                remove_tree(&entry.path());
            }
        }
    }
}

/// Waits until PID 1 is connected.
async fn wait_ready(sandbox: &Sandbox) -> Result<Connection, SandboxError> {
    let mut presence = sandbox.presence();
    let settled = presence.wait_for(|now| now.connection.is_some() || now.is_gone());
    let settled = timeout(READY_TIMEOUT, settled).await.map_err(|_| SandboxError::NotReady)?;
    let presence = settled.map_err(|_| SandboxError::Gone)?;
    presence.connection.clone().ok_or(SandboxError::Gone)
}

fn remove_tree(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a folder stays behind");
        }
        _ => {}
    }
}

/// A panic elsewhere leaves the map whole: every change is a single call.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
