//! The executor's own folder: its id, kept over restarts, and the lock that makes it the only one
//! in there. Refuses a folder that another executor uses.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domain::ids::ExecutorId;

/// How long the lock is tried for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It or something in it cannot be read or written.
    #[error("cannot use the data folder: {path}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another executor holds it.
    #[error("another executor runs with the data folder {0}: stop it, or set BULKHEAD_DATA_DIR")]
    InUse(PathBuf),
    /// The id file contains something else.
    #[error("{0} does not contain an executor id: restore it, or remove the file for a new id")]
    BadId(PathBuf),
}

/// See the module. The lock is held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    executor_id: ExecutorId,
    _lock: File,
}

impl DataDir {
    /// Opens the folder and makes it if needed.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        create_private(path)?;
        create_private(&path.join("spool"))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(io_at(&lock_path))?;
        match take(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io_at(&lock_path)(source)),
        }
        let executor_id = load_or_create_id(&path.join("executor-id"))?;
        Ok(Self { path: path.to_owned(), executor_id, _lock: lock })
    }

    /// Who this executor is.
    pub fn executor_id(&self) -> ExecutorId {
        self.executor_id
    }

    /// File of the journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.redb")
    }

    /// Folder of the workspaces.
    pub fn workspaces(&self) -> PathBuf {
        self.path.join("workspaces")
    }

    /// Folder of the spool files.
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }
}

/// Tries for a moment: between a fork and its exec, a program that the last holder was just starting
/// has the lock too.
fn take(lock: &File) -> Result<(), TryLockError> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(LOCK_PATIENCE / 50);
            }
            taken => return taken,
        }
    }
}

/// Makes a folder that only its owner can enter.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn create_private(path: &Path) -> Result<(), DataDirError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_at(path))
}

fn load_or_create_id(path: &Path) -> Result<ExecutorId, DataDirError> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_| DataDirError::BadId(path.to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = ExecutorId::from(uuid::Uuid::now_v7());
            save_id(path, id).map_err(io_at(path))?;
            Ok(id)
        }
        Err(error) => Err(io_at(path)(error)),
    }
}

/// Written beside and renamed, so that a crash leaves either no id or a whole one.
fn save_id(path: &Path, id: ExecutorId) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

fn io_at(path: &Path) -> impl FnOnce(std::io::Error) -> DataDirError {
    let path = path.to_owned();
    |source| DataDirError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_survives_and_a_second_executor_is_refused() {
        let path = std::env::temp_dir().join(format!("bulkhead-{}", uuid::Uuid::now_v7()));
        let first = DataDir::open(&path).expect("opens");
        let id = first.executor_id();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse(_))));
        drop(first);
        assert_eq!(DataDir::open(&path).expect("opens again").executor_id(), id);
        std::fs::remove_dir_all(path).expect("removes");
    }
}
