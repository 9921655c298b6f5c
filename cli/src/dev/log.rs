//! What `bulkhead dev` says: to its log, and to the terminal unless it is detached.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::DevError;
use crate::console;

/// Where messages go.
pub(super) struct DevLog {
    file: File,
    terminal: bool,
}

impl DevLog {
    /// Opens the log for appending.
    pub(super) fn open(path: &Path, terminal: bool) -> Result<Self, DevError> {
        Ok(Self { file: open_append(path)?, terminal })
    }

    /// Says something.
    pub(super) fn say(&self, message: impl Display) {
        self.write(&message);
        if self.terminal {
            console::say(message);
        }
    }

    /// Keeps something that is said on stderr anyway; a detached process's is this log.
    pub(super) fn note(&self, message: impl Display) {
        if self.terminal {
            self.write(&message);
        }
    }

    fn write(&self, message: &impl Display) {
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        // A full disk is no reason to take everything down.
        let _ = writeln!(&self.file, "{now} {message}");
    }
}

/// Opens a log that only we may read, at its end.
pub(super) fn open_append(path: &Path) -> Result<File, DevError> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options.open(path).map_err(DevError::file("open the log", path))
}
