//! The data folder: what lies where, and who may look at it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::DevError;

/// The paths inside one data folder.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the folder and its parts where they are missing.
    pub(super) fn create(data_dir: &Path) -> Result<Self, DevError> {
        // Postgres runs as a user of its own and has to get through to its cluster.
        make(data_dir, 0o711)?;
        let layout = Self::existing(data_dir)?;
        for private in [layout.secrets(), layout.keys(), layout.logs(), layout.temporal()] {
            make(&private, 0o700)?;
        }
        make(&layout.root.join("executors"), 0o700)?;
        Ok(layout)
    }

    /// The paths of a folder that is there.
    pub(super) fn existing(data_dir: &Path) -> Result<Self, DevError> {
        let root = data_dir.canonicalize().map_err(DevError::file("open", data_dir))?;
        Ok(Self { root })
    }

    /// The folder itself, absolute.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Passwords and tokens.
    pub(super) fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// The control plane's own keys.
    pub(super) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// One file per process.
    pub(super) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of the process with this name.
    pub(super) fn log_of(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Temporal's database.
    pub(super) fn temporal(&self) -> PathBuf {
        self.root.join("temporal")
    }

    /// Postgres' folder, or a link to it.
    pub(super) fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }

    /// The journal, spool and id of a tenant's executor.
    pub(super) fn executor(&self, tenant: &str) -> PathBuf {
        self.root.join("executors").join(tenant)
    }
}

/// Makes a folder with its parents, unless it is there.
pub(super) fn make(path: &Path, mode: u32) -> Result<(), DevError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(DevError::file("make the folder", parent))?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(_) if path.is_dir() => Ok(()),
        outcome => outcome.map_err(DevError::file("make the folder", path)),
    }
}

/// The last lines of a file, for a person who has to find out what went wrong.
pub(super) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    // The end is enough; logs can be long.
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16 * 1024)..]).into_owned();
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    last.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
