//! Why there is no sandbox, in words for whoever runs the host.

use std::path::PathBuf;

use protocol::exec::NotStarted;

use crate::data_dir::DataDirError;
use crate::docker::DockerError;
use crate::journal::JournalError;
use crate::workspace::WorkspaceError;

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
    #[error("the sandbox did not connect within {} s", super::READY_TIMEOUT.as_secs())]
    NotReady,
    /// It died while it was waited for.
    #[error("the sandbox is gone")]
    Gone,
    /// The session's sandbox is made of another image.
    #[error("the session's sandbox is made of another image")]
    OtherImage,
    /// There is no workspace for it.
    #[error("no workspace for the sandbox")]
    Workspace(#[source] WorkspaceError),
    /// A workspace in memory cannot be larger than the memory.
    #[error(
        "workspaces are kept in memory here, and limits.workspace_bytes exceeds \
         limits.memory_bytes: lower it, or make loop devices work on this host"
    )]
    WorkspaceExceedsMemory,
    /// The session was closed: it gets no sandbox any more.
    #[error("the session is closed")]
    Closed,
    /// The task that made it was ended.
    #[error("the sandbox's creation was interrupted")]
    Interrupted,
}

impl SandboxError {
    /// What whoever asked for the sandbox is told.
    pub(crate) fn not_started(&self) -> NotStarted {
        match self {
            Self::Docker(DockerError::ImageMissing(_)) => NotStarted::ImageMissing,
            Self::Workspace(
                WorkspaceError::DiskFull { .. } | WorkspaceError::Overpromised { .. },
            ) => NotStarted::DiskFull,
            Self::WorkspaceExceedsMemory => NotStarted::WorkspaceExceedsMemory,
            _ => NotStarted::SandboxUnavailable,
        }
    }
}
