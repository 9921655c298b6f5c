//! One `bulkhead dev` per data folder: an advisory lock that ends with its process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;

use super::DevError;

const NAME: &str = "dev.lock";

/// Held as long as `bulkhead dev` runs.
pub(super) struct DevLock {
    file: File,
}

impl DevLock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(folder: &Path) -> Result<Self, DevError> {
        match Self::try_take(folder)? {
            Some(lock) => Ok(lock),
            None => Err(DevError::AlreadyRunning {
                folder: folder.display().to_string(),
                pid: holder(folder).map_or_else(|| "unknown".into(), |pid| pid.to_string()),
            }),
        }
    }

    /// Takes the lock if nobody has it.
    pub(super) fn try_take(folder: &Path) -> Result<Option<Self>, DevError> {
        let path = folder.join(NAME);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&path).map_err(DevError::file("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => {
                return Err(DevError::File { action: "lock", path, source });
            }
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(DevError::file("write", &path))?;
        Ok(Some(Self { file }))
    }
}

/// A pid that is over must not be taken for a holder's.
impl Drop for DevLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

/// The process that has the lock, if one does.
pub(super) fn holder(folder: &Path) -> Option<i32> {
    fs::read_to_string(folder.join(NAME)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_learns_who_was_first() {
        let folder = std::env::temp_dir().join(format!("bulkhead-lock-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        let first = DevLock::take(&folder).expect("the first one");
        let problem = DevLock::take(&folder).map(drop).expect_err("the second one").to_string();
        assert!(problem.contains(&std::process::id().to_string()), "{problem}");
        assert!(problem.contains(&folder.display().to_string()), "{problem}");
        drop(first);
        assert!(DevLock::try_take(&folder).expect("lock").is_some());
        fs::remove_dir_all(&folder).expect("cleanup");
    }
}
