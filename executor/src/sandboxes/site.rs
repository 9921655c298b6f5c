//! Making one container with its workspace, finding one again, and taking one apart. Knows no
//! sessions' slots and no pool.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::ids::{ExecId, ExecutorId, SandboxId, TenantId};
use domain::limits::SandboxLimits;
use tokio::net::UnixListener;
use tokio::time::timeout;
use uuid::Uuid;

use super::{READY_TIMEOUT, SandboxError};
use crate::clock::now_s;
use crate::data_dir::create_private;
use crate::docker::{Container, Docker, Found};
use crate::inventory::Inventory;
use crate::journal::Journal;
use crate::profile::{self, Blueprint, HostFeatures, Purpose, WorkMount};
use crate::sandbox::{Birth, Connection, Sandbox};
use crate::workspace::{Hold, WorkspaceError, WorkspaceId, Workspaces};

/// The kernel's limit for a socket's path, in bytes (`sun_path` less its NUL).
const MAX_SOCKET_PATH: usize = 107;

/// How long sandboxes live, and how many wait.
#[derive(Debug, Clone, Copy)]
pub struct Lifecycle {
    /// Containers that wait for sessions.
    pub pool_size: usize,
    /// How long a container may be without a command before it is removed; its workspace stays.
    pub idle_timeout: Duration,
    /// How old a container may become before it is replaced between two commands.
    pub max_lifetime: Duration,
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
    /// Where `/work` comes from.
    pub workspaces: Workspaces,
    /// What this host's Docker can do.
    pub host: HostFeatures,
    /// Digest of the image that the pool is made of.
    pub default_image: String,
    /// How long sandboxes live.
    pub lifecycle: Lifecycle,
}

/// What becomes of a workspace when its container goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Delete,
}

/// What `/work` of a new container shall be.
pub(super) enum Work {
    /// Empty, of the size that the limits say.
    New,
    /// What a former container left, with the device that it is attached to.
    Again(Hold, PathBuf),
}

impl Site {
    /// Makes a container and waits until its PID 1 is connected.
    pub(super) async fn make(
        &self,
        inventory: &Inventory,
        purpose: Purpose<'_>,
        limits: SandboxLimits,
        image_digest: &str,
        work: Work,
    ) -> Result<(Sandbox, Connection), SandboxError> {
        let id = SandboxId::from(Uuid::now_v7());
        let held = inventory.hold(id);
        let (workspace, attached) = match work {
            Work::Again(hold, device) => (Some(hold), Some(device)),
            Work::New if self.workspaces.on_disk() => (Some(self.workspaces.hold_new()), None),
            Work::New if limits.workspace_bytes > limits.memory_bytes => {
                return Err(SandboxError::WorkspaceExceedsMemory);
            }
            Work::New => (None, None),
        };
        let fate = if attached.is_some() { Fate::Keep } else { Fate::Delete };
        let workspace_id = workspace.as_ref().map(|hold| hold.id);
        let name = first_name(id, purpose);
        let started = async {
            // Listening before it starts: PID 1 finds the socket with its first look.
            let listener = self.listen(id)?;
            // The device comes into play with the start; until then both can be made at once.
            let prepared = self.prepare(id, workspace_id, attached, limits.workspace_bytes);
            let body = self.body(id, purpose, limits, image_digest, workspace_id.is_some());
            let created = self.docker.create(&name, body);
            let (prepared, created) = tokio::join!(prepared, created);
            let container = created.map_err(SandboxError::Docker)?;
            prepared.map_err(SandboxError::Workspace)?;
            self.docker.start(&container).await.map_err(SandboxError::Docker)?;
            if let Some(workspace) = workspace_id {
                // It is mounted now: from here on the kernel lets the device go with the mount,
                // even if nobody of us is there any more when the container ends.
                let freed = self.workspaces.detach(workspace).await;
                freed.map_err(SandboxError::Workspace)?;
            }
            Ok((container, listener))
        };
        let (container, listener) = match started.await {
            Ok(started) => started,
            Err(error) => {
                self.clear_away(id, &name, workspace_id, fate).await;
                return Err(error);
            }
        };
        let birth = Birth {
            id,
            container,
            image_digest: image_digest.to_owned(),
            held,
            workspace,
            age: Duration::ZERO,
            finished: Vec::new(),
        };
        let sandbox = Sandbox::new(birth, self.docker.clone(), self.epoch, listener);
        let inspected = self.docker.inspect(sandbox.container());
        match tokio::join!(wait_ready(&sandbox), inspected) {
            (Ok(connection), inspected) => {
                if let Ok(Container::Running(pid) | Container::Paused(pid)) = inspected {
                    sandbox.set_pid(pid);
                }
                Ok((sandbox, connection))
            }
            (Err(error), _) => {
                sandbox.mark_removed();
                self.clear_away(id, sandbox.container(), workspace_id, fate).await;
                Err(error)
            }
        }
    }

    /// Makes the workspace's device, and the name that Docker knows it by. Device numbers are used
    /// again; a name that goes with its sandbox never leads to another one's workspace.
    async fn prepare(
        &self,
        id: SandboxId,
        workspace: Option<WorkspaceId>,
        attached: Option<PathBuf>,
        bytes: u64,
    ) -> Result<(), WorkspaceError> {
        let Some(workspace) = workspace else { return Ok(()) };
        let device = match attached {
            Some(device) => device,
            None => {
                self.workspaces.make(workspace, bytes).await?;
                self.workspaces.attach(workspace).await?
            }
        };
        let link = self.device_link(id);
        std::os::unix::fs::symlink(device, &link)
            .map_err(|source| WorkspaceError::Io { path: link, source })
    }

    fn body(
        &self,
        id: SandboxId,
        purpose: Purpose<'_>,
        limits: SandboxLimits,
        image_digest: &str,
        on_disk: bool,
    ) -> bollard::models::ContainerCreateBody {
        let (volume, device) = (volume_name(id), self.device_link(id));
        let work = match on_disk {
            true => WorkMount::Disk { volume: &volume, device: &device },
            false => WorkMount::Memory,
        };
        let folder = self.folder(id);
        profile::container(&self.blueprint(id, purpose, limits, image_digest, work, &folder))
    }

    fn blueprint<'a>(
        &'a self,
        sandbox_id: SandboxId,
        purpose: Purpose<'a>,
        limits: SandboxLimits,
        image_digest: &'a str,
        work: WorkMount<'a>,
        control_folder: &'a Path,
    ) -> Blueprint<'a> {
        Blueprint {
            executor_id: self.executor_id,
            tenant_id: self.tenant_id,
            sandbox_id,
            purpose,
            limits,
            uid: self.uid,
            image_digest,
            work,
            control_folder,
            init_program: &self.init_program,
            host: &self.host,
        }
    }

    /// How this executor makes containers for its pool; see [`profile::recipe`].
    pub(super) fn pool_recipe(&self) -> String {
        let nobody = Path::new("");
        let work = match self.workspaces.on_disk() {
            true => WorkMount::Disk { volume: "", device: nobody },
            false => WorkMount::Memory,
        };
        let (id, limits) = (SandboxId::from(Uuid::nil()), SandboxLimits::default());
        let purpose = Purpose::Pool("");
        let image = &self.default_image;
        profile::recipe(&self.blueprint(id, purpose, limits, image, work, nobody))
    }

    /// A container of an earlier life, if it runs.
    pub(super) async fn adopt(
        &self,
        inventory: &Inventory,
        found: &Found,
        id: SandboxId,
        workspace: Option<WorkspaceId>,
        finished: Vec<ExecId>,
    ) -> Result<Option<Sandbox>, SandboxError> {
        let state = self.docker.inspect(&found.id).await.map_err(SandboxError::Docker)?;
        let (Container::Running(pid) | Container::Paused(pid)) = state else { return Ok(None) };
        let age_s = now_s().saturating_sub(found.created_at_s);
        let birth = Birth {
            id,
            container: found.id.clone(),
            image_digest: found.image_digest.clone(),
            held: inventory.hold(id),
            workspace: workspace.map(|id| self.workspaces.hold(id)),
            age: Duration::from_secs(u64::try_from(age_s).unwrap_or(0)),
            finished,
        };
        let listener = self.listen(id)?;
        let sandbox = Sandbox::new(birth, self.docker.clone(), self.epoch, listener);
        sandbox.set_pid(pid);
        Ok(Some(sandbox))
    }

    /// Takes a sandbox apart: container, volume, device, and as said the workspace. Safe to repeat.
    pub(super) async fn dispose(
        &self,
        id: SandboxId,
        container: &str,
        workspace: Option<WorkspaceId>,
        fate: Fate,
    ) -> Result<(), SandboxError> {
        self.docker.remove(container).await.map_err(SandboxError::Docker)?;
        let terminals = profile::terminals_name(id);
        self.docker.remove_volume(&terminals).await.map_err(SandboxError::Docker)?;
        if let Some(workspace) = workspace {
            self.docker.remove_volume(&volume_name(id)).await.map_err(SandboxError::Docker)?;
            let gone = match fate {
                Fate::Keep => self.workspaces.detach(workspace).await,
                Fate::Delete => self.workspaces.delete(workspace).await,
            };
            gone.map_err(SandboxError::Workspace)?;
        }
        let _ = std::fs::remove_file(self.device_link(id));
        remove_tree(&self.folder(id));
        Ok(())
    }

    /// The same for what is of no use to anybody: the sweep repeats it when it fails.
    pub(super) async fn clear_away(
        &self,
        id: SandboxId,
        container: &str,
        workspace: Option<WorkspaceId>,
        fate: Fate,
    ) {
        if let Err(error) = self.dispose(id, container, workspace, fate).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(sandbox = %id, error, "something of it stays behind for now");
        }
    }

    /// The workspace of a container that the journal does not know.
    pub(super) fn find_workspace(&self, id: SandboxId) -> Option<WorkspaceId> {
        let device = std::fs::read_link(self.device_link(id)).ok()?;
        self.workspaces.find_by_device(&device)
    }

    fn listen(&self, id: SandboxId) -> Result<UnixListener, SandboxError> {
        let folder = self.folder(id);
        let path = self.socket_path(id)?;
        create_private(&folder).map_err(SandboxError::Folder)?;
        // One of an earlier life would make the bind fail.
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(&path).map_err(|source| SandboxError::Listen { path, source })
    }

    pub(super) fn socket_path(&self, id: SandboxId) -> Result<PathBuf, SandboxError> {
        let path = self.folder(id).join("executor.sock");
        let fits = path.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH;
        if fits { Ok(path) } else { Err(SandboxError::PathTooLong(path)) }
    }

    /// Folder of this executor's sockets and device names.
    pub(super) fn executor_folder(&self) -> PathBuf {
        let id = self.executor_id.to_string();
        // The random end of the id; its beginning is a time.
        self.run_dir.join(&id[id.len() - 12..])
    }

    fn folder(&self, id: SandboxId) -> PathBuf {
        self.executor_folder().join(id.to_string())
    }

    /// Outside of the folder that the container sees.
    fn device_link(&self, id: SandboxId) -> PathBuf {
        self.executor_folder().join(format!("{id}{DEVICE_SUFFIX}"))
    }
}

/// How names of devices end.
pub(super) const DEVICE_SUFFIX: &str = ".disk";

/// The name of a sandbox's volume.
pub(super) fn volume_name(id: SandboxId) -> String {
    format!("bulkhead-{id}")
}

/// The sandbox of a volume of this name.
pub(super) fn volume_owner(name: &str) -> Option<SandboxId> {
    let name = name.strip_suffix(profile::TERMINALS_SUFFIX).unwrap_or(name);
    name.strip_prefix("bulkhead-")?.parse().ok()
}

/// The name of a container from the beginning.
fn first_name(id: SandboxId, purpose: Purpose<'_>) -> String {
    match purpose {
        Purpose::Session(session, generation) => session_name(id, session, generation),
        Purpose::Pool(_) => format!("bulkhead-pool-{id}"),
    }
}

/// The name of a session's container, for whoever reads `docker ps`. Its end tells it from a
/// former one of the same session that is not quite gone yet.
pub(super) fn session_name(
    id: SandboxId,
    session: domain::ids::SessionId,
    generation: u32,
) -> String {
    let id = id.to_string();
    format!("bulkhead-{session}-g{generation}-{}", &id[id.len() - 6..])
}

/// Waits until PID 1 is connected.
pub(super) async fn wait_ready(sandbox: &Sandbox) -> Result<Connection, SandboxError> {
    let mut presence = sandbox.presence();
    let settled = presence.wait_for(|now| now.connection.is_some() || now.is_gone());
    let settled = timeout(READY_TIMEOUT, settled).await.map_err(|_| SandboxError::NotReady)?;
    let presence = settled.map_err(|_| SandboxError::Gone)?;
    presence.connection.clone().ok_or(SandboxError::Gone)
}

pub(super) fn remove_tree(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a folder stays behind");
        }
        _ => {}
    }
}
