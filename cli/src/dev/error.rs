//! What can keep `bulkhead dev` from running, with what to do about it.

use std::io;
use std::path::PathBuf;

use crate::client::ClientError;

/// Why everything could not be started, or not be stopped.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// Another one works on the same data.
    #[error(
        "`bulkhead dev` already runs on {folder} (pid {pid}); stop it with `bulkhead dev stop \
         --data-dir {folder}`, or choose another --data-dir"
    )]
    AlreadyRunning {
        /// The data folder.
        folder: String,
        /// Who has it.
        pid: String,
    },
    /// A file or folder of ours cannot be used.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program is not installed.
    #[error("{what} not found{place}; {remedy}")]
    NoProgram {
        /// Which.
        what: String,
        /// Where it was looked for.
        place: String,
        /// How to get it.
        remedy: &'static str,
    },
    /// A program could not be started at all.
    #[error("cannot start {name}")]
    Spawn {
        /// Which.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that does one thing and ends did not do it.
    #[error("{name} failed: {outcome}\n{tail}")]
    Step {
        /// Which.
        name: String,
        /// How it ended.
        outcome: String,
        /// The last lines it wrote.
        tail: String,
    },
    /// A server did not become ready.
    #[error("{name} is not ready: {why}. The end of {log}:\n{tail}", log = log.display())]
    NotReady {
        /// Which.
        name: String,
        /// What was waited for, and for how long.
        why: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// There is no free port, or the one asked for is taken.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Port {
        /// The one asked for; 0 is any.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The secrets of a cluster are gone.
    #[error(
        "{cluster} is a Postgres cluster whose passwords are missing ({secrets}): restore that \
         file, or move the data folder away to begin anew"
    )]
    SecretsLost {
        /// The cluster.
        cluster: PathBuf,
        /// The file that is missing.
        secrets: PathBuf,
    },
    /// A tenant is in the database, and nobody knows its tokens.
    #[error(
        "tenant `{name}`: its tokens are missing from {secrets} or no longer good. Restore that \
         file, or move the data folder away to begin anew"
    )]
    TokensLost {
        /// The tenant.
        name: String,
        /// Where the tokens were.
        secrets: PathBuf,
    },
    /// The control plane refused something that `dev` needs.
    #[error("the control plane refused to {action}")]
    Api {
        /// What was asked.
        action: String,
        /// What it said.
        source: ClientError,
    },
    /// It did not stop in time.
    #[error(
        "pid {pid} on {folder} did not stop within {limit_s} s; its log is {folder}/logs/dev.log"
    )]
    StopTimeout {
        /// The data folder.
        folder: String,
        /// Who has it.
        pid: String,
        /// How long we waited, in seconds.
        limit_s: u64,
    },
    /// The detached process ended before it was ready.
    #[error("`bulkhead dev` ended before it was ready. The end of {log}:\n{tail}", log = log.display())]
    DetachedDied {
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Something that should be text is none.
    #[error("{what} is not understood")]
    Garbled {
        /// What it is.
        what: String,
    },
}

impl DevError {
    /// For `map_err` on operations with files.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
