//! The folder of the spool files: where each one lies, which are in use, and how much all of them may
//! hold before nothing further starts. What runs is never cut short for it.

use std::path::PathBuf;

use domain::ids::ExecId;
use protocol::init::Stream;

use crate::journal::{Journal, JournalError};

/// See the module.
pub struct SpoolFolder {
    path: PathBuf,
    limit_bytes: u64,
}

impl SpoolFolder {
    /// The folder `path`, in which no further command starts output beyond `limit_bytes`.
    pub fn new(path: PathBuf, limit_bytes: u64) -> Self {
        Self { path, limit_bytes }
    }

    /// The file of a stream.
    pub(crate) fn file(&self, exec_id: ExecId, stream: Stream) -> PathBuf {
        self.path.join(format!("{exec_id}.{}", stream.as_str()))
    }

    /// Whether another command may start. Each adds 128 MiB at the most, see
    /// [`domain::limits::MAX_OUTPUT_BYTES`].
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn has_room(&self) -> std::io::Result<bool> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(&self.path)? {
            match entry?.metadata() {
                Ok(file) => bytes += file.len(),
                // Shipped and removed meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes < self.limit_bytes)
    }

    /// Removes files that belong to nothing in the journal any more.
    ///
    /// # Errors
    /// When the journal fails. A file that stays behind is no error.
    pub(crate) async fn sweep(&self, journal: &Journal) -> Result<(), JournalError> {
        let mut wanted = Vec::new();
        for entries in [journal.unfinished().await?, journal.unshipped().await?] {
            for (exec_id, _) in entries {
                wanted.extend(Stream::BOTH.map(|stream| self.file(exec_id, stream)));
            }
        }
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Ok(()) };
        for path in entries.flatten().map(|entry| entry.path()) {
            if !wanted.contains(&path) {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }
}
