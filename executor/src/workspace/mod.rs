//! Workspaces: what `/work` is made of. On disk, each is an image file of exactly its size behind a
//! loop device, so that it outlives its container and cannot outgrow its quota. In memory, it is a
//! tmpfs that goes with its container.
//!
//! Knows neither Docker nor sessions: whose a workspace is, the journal knows.

mod image;
mod loops;
mod program;

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::data_dir::{DataDirError, create_private};
pub use program::ProgramError;

/// Free bytes that no new workspace may touch: this, or a twentieth of a smaller disk.
const RESERVE_BYTES: u64 = 1 << 30;
/// How much may be promised to workspaces for each byte that is free: most of them stay nearly empty.
const PROMISE: u64 = 8;
/// Size of the workspace that shows whether workspaces can be made.
const PROBE_BYTES: u64 = 1 << 20;

/// Which workspace; also its file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkspaceId(Uuid);

/// What workspaces shall be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WorkspaceKind {
    /// Image files behind loop devices.
    Loop,
    /// Memory.
    Tmpfs,
    /// Image files where that works, else memory.
    Auto,
}

/// No workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// A file failed.
    #[error("the workspace file {path} cannot be used")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder of the files failed.
    #[error("no folder for workspaces")]
    Folder(#[from] DataDirError),
    /// A program of the host failed.
    #[error("a workspace could not be prepared")]
    Program(#[from] ProgramError),
    /// The disk is nearly full.
    #[error("{free} bytes are free under {path}, {reserve} are kept in reserve: free some space")]
    DiskFull {
        /// Where.
        path: PathBuf,
        /// What is free, in bytes.
        free: u64,
        /// What has to stay free, in bytes.
        reserve: u64,
    },
    /// Too much is promised to the workspaces that there are.
    #[error(
        "{promised} bytes are promised to workspaces under {path} that are not written yet, more than \
         {PROMISE} times what is free: close sessions that nobody needs, or free some space"
    )]
    Overpromised {
        /// Where.
        path: PathBuf,
        /// What would be promised, in bytes.
        promised: u64,
    },
    /// It is not there, or beyond repair.
    #[error("the workspace is lost")]
    Lost,
    /// Somebody still uses its device.
    #[error("the workspace is still in use by a container that was removed")]
    Busy,
    /// It is on disk and this executor keeps workspaces in memory.
    #[error("the workspace is on disk, but BULKHEAD_WORKSPACE keeps this executor to memory")]
    OtherKind,
    /// Loop devices were asked for and do not work here.
    #[error(
        "workspaces on loop devices do not work on this host: run as root with e2fsprogs, losetup \
         and /dev/loop-control, or set BULKHEAD_WORKSPACE=tmpfs"
    )]
    NoLoop(#[source] Box<WorkspaceError>),
}

impl WorkspaceError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}

/// See the module.
pub struct Workspaces {
    /// Where the files are; nothing when workspaces are in memory.
    folder: Option<PathBuf>,
    uid: u32,
    held: Arc<Mutex<HashSet<WorkspaceId>>>,
    /// One template is made at a time.
    templates: tokio::sync::Mutex<()>,
}

/// Keeps a workspace from being swept away while no session's journal row names it.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) id: WorkspaceId,
    held: Arc<Mutex<HashSet<WorkspaceId>>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Workspaces {
    /// Workspaces in `folder`, for commands of user `uid`. Tries out whether loop devices work by
    /// making, attaching and removing a small one.
    ///
    /// # Errors
    /// When loop devices are demanded and do not work, with what to do about it.
    pub async fn open(
        kind: WorkspaceKind,
        folder: &Path,
        uid: u32,
    ) -> Result<Self, WorkspaceError> {
        if kind == WorkspaceKind::Tmpfs {
            return Ok(Self::new(None, uid));
        }
        match Self::open_disk(folder, uid).await {
            Ok(disk) => Ok(disk),
            Err(error) if kind == WorkspaceKind::Loop => {
                Err(WorkspaceError::NoLoop(Box::new(error)))
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "no loop devices: workspaces are kept in memory");
                Ok(Self::new(None, uid))
            }
        }
    }

    async fn open_disk(folder: &Path, uid: u32) -> Result<Self, WorkspaceError> {
        create_private(folder)?;
        // The kernel tells loop devices' files by their real paths, and so must we.
        let real = folder.canonicalize().map_err(WorkspaceError::io(folder))?;
        let disk = Self::new(Some(real), uid);
        disk.probe().await?;
        Ok(disk)
    }

    fn new(folder: Option<PathBuf>, uid: u32) -> Self {
        let templates = tokio::sync::Mutex::new(());
        Self { folder, uid, held: Arc::default(), templates }
    }

    async fn probe(&self) -> Result<(), WorkspaceError> {
        let probe = self.hold_new();
        let made = async {
            let path = self.path(probe.id)?;
            image::format(&path, PROBE_BYTES, self.uid).await?;
            loops::attach(&path).await.map(drop)
        };
        let made = made.await;
        let deleted = self.delete(probe.id).await;
        made.and(deleted)
    }

    /// Whether workspaces outlive their containers.
    pub fn on_disk(&self) -> bool {
        self.folder.is_some()
    }

    /// A new id that the sweep knows of.
    pub(crate) fn hold_new(&self) -> Hold {
        self.hold(WorkspaceId(Uuid::now_v7()))
    }

    /// Keeps the sweep away from a workspace.
    pub(crate) fn hold(&self, id: WorkspaceId) -> Hold {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Hold { id, held: Arc::clone(&self.held) }
    }

    pub(crate) fn is_held(&self, id: WorkspaceId) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Makes an empty workspace of so many bytes, of which the file system takes a few percent for
    /// its tables.
    ///
    /// # Errors
    /// [`WorkspaceError::DiskFull`] among others.
    pub(crate) async fn make(&self, id: WorkspaceId, bytes: u64) -> Result<(), WorkspaceError> {
        let path = self.path(id)?;
        let folder = path.parent().unwrap_or(&path).to_owned();
        let bytes = image::image_bytes(bytes);
        check_room(&folder, self.promised().saturating_add(bytes))?;
        let template = folder.join(format!("template-{bytes}-{}.ext4", self.uid));
        {
            let _one = self.templates.lock().await;
            if !template.exists() {
                let draft = folder.join("template.new");
                remove_file(&draft)?;
                image::format(&draft, bytes, self.uid).await?;
                std::fs::rename(&draft, &template).map_err(WorkspaceError::io(&template))?;
            }
        }
        let copied = tokio::task::spawn_blocking(move || image::copy_sparse(&template, &path));
        copied.await.unwrap_or(Err(WorkspaceError::Lost))
    }

    /// Makes a workspace's device, after a repair if need be. Nobody else may use it.
    ///
    /// # Errors
    /// [`WorkspaceError::Lost`] when it is not there or cannot be repaired; anything else may pass.
    pub(crate) async fn attach(&self, id: WorkspaceId) -> Result<PathBuf, WorkspaceError> {
        let path = self.path(id)?;
        // Before the check: who still writes would make a mess of a repair.
        loops::release(&path).await?;
        image::check(&path).await?;
        loops::attach(&path).await
    }

    /// Lets a workspace's device go.
    pub(crate) async fn detach(&self, id: WorkspaceId) -> Result<(), WorkspaceError> {
        loops::detach(&self.path(id)?).await
    }

    /// Removes a workspace for ever, however deep the folders in it are.
    pub(crate) async fn delete(&self, id: WorkspaceId) -> Result<(), WorkspaceError> {
        let path = self.path(id)?;
        loops::detach(&path).await?;
        remove_file(&path)
    }

    /// Every workspace that there is a file of.
    pub(crate) fn list(&self) -> Vec<WorkspaceId> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| id_of(&entry.path())).collect()
    }

    /// Bytes that workspaces may still grow by.
    fn promised(&self) -> u64 {
        let open = |id| {
            let file = std::fs::metadata(self.path(id).ok()?).ok()?;
            Some(file.len().saturating_sub(file.blocks().saturating_mul(512)))
        };
        self.list().into_iter().filter_map(open).fold(0, u64::saturating_add)
    }

    /// Every workspace that there is a device of.
    pub(crate) fn list_attached(&self) -> Vec<WorkspaceId> {
        let ours = |path: &Path| path.parent().is_some_and(|at| Some(at) == self.folder.as_deref());
        let devices = loops::list().into_iter().filter(|device| ours(&device.file));
        devices.filter_map(|device| id_of(&device.file)).collect()
    }

    /// The workspace behind a device.
    pub(crate) fn find_by_device(&self, device: &Path) -> Option<WorkspaceId> {
        let found = loops::list().into_iter().find(|found| found.device == device)?;
        id_of(&found.file).filter(|id| self.path(*id).is_ok_and(|path| path == found.file))
    }

    fn path(&self, id: WorkspaceId) -> Result<PathBuf, WorkspaceError> {
        let folder = self.folder.as_ref().ok_or(WorkspaceError::OtherKind)?;
        Ok(folder.join(format!("{}.img", id.0)))
    }
}

fn id_of(path: &Path) -> Option<WorkspaceId> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".img")?;
    Uuid::try_parse(stem).ok().map(WorkspaceId)
}

fn remove_file(path: &Path) -> Result<(), WorkspaceError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(WorkspaceError::io(path)(error))
        }
        _ => Ok(()),
    }
}

/// Images are sparse: what is promised to them may exceed the disk, so new ones stop in time.
fn check_room(folder: &Path, promised: u64) -> Result<(), WorkspaceError> {
    let disk = nix::sys::statvfs::statvfs(folder)
        .map_err(|error| WorkspaceError::io(folder)(error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
    let (free, total) = (bytes(disk.blocks_available()), bytes(disk.blocks()));
    judge_room(folder, free, reserve(total), promised)
}

fn judge_room(folder: &Path, free: u64, reserve: u64, promised: u64) -> Result<(), WorkspaceError> {
    let path = folder.to_owned();
    if free < reserve {
        return Err(WorkspaceError::DiskFull { path, free, reserve });
    }
    if promised > free.saturating_mul(PROMISE) {
        return Err(WorkspaceError::Overpromised { path, promised });
    }
    Ok(())
}

fn reserve(total: u64) -> u64 {
    RESERVE_BYTES.min(total / 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_gibibyte_or_a_twentieth_of_a_small_disk() {
        assert_eq!(reserve(1 << 40), 1 << 30);
        assert_eq!(reserve(10 << 30), 512 << 20);
    }

    #[test]
    fn what_is_promised_may_exceed_what_is_free_by_so_much() {
        let judge = |free, promised| judge_room(Path::new("/w"), free, 100, promised);
        assert!(judge(100, 800).is_ok());
        assert!(matches!(judge(99, 0), Err(WorkspaceError::DiskFull { .. })));
        let refused = judge(100, 801).expect_err("too much");
        assert!(refused.to_string().contains("801 bytes are promised"), "{refused}");
    }

    #[test]
    fn only_files_that_are_named_like_workspaces_are_ours() {
        let id = Uuid::now_v7();
        assert_eq!(id_of(Path::new(&format!("/a/{id}.img"))), Some(WorkspaceId(id)));
        for other in ["/a/photo.img", "/a/template-1-2.ext4", "/a/.img", "/a"] {
            assert_eq!(id_of(Path::new(other)), None, "{other}");
        }
    }
}
