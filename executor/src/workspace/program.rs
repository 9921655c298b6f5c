//! Runs the host's programs for file systems and loop devices: by name, without a shell, with a
//! time limit and nothing of our environment.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Where such programs are; a service's own `PATH` often lacks the `sbin` folders.
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";
/// Bytes of a program's complaint that are kept.
const MAX_COMPLAINT: usize = 300;

/// A program of the host did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It cannot be run.
    #[error("{program} cannot be run: install e2fsprogs and mount (util-linux)")]
    Missing {
        /// Its name.
        program: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long and was killed.
    #[error("{program} took longer than {} s", limit.as_secs())]
    TimedOut {
        /// Its name.
        program: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// It ended with a failure.
    #[error("{program} failed: {complaint}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// What it wrote, shortened.
        complaint: String,
    },
}

/// How a program ended.
pub(crate) struct Ended {
    /// Its exit status; nothing when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    complaint: String,
}

/// Runs a program to its end, whatever that is.
pub(crate) async fn run(
    program: &'static str,
    args: &[&OsStr],
    limit: Duration,
) -> Result<Ended, ProgramError> {
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(limit, child)
        .await
        .map_err(|_| ProgramError::TimedOut { program, limit })?
        .map_err(|source| ProgramError::Missing { program, source })?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        complaint: complaint.trim().chars().take(MAX_COMPLAINT).collect(),
    })
}

/// Runs a program that has to succeed, and gives what it wrote.
pub(crate) async fn succeed(
    program: &'static str,
    args: &[&OsStr],
    limit: Duration,
) -> Result<String, ProgramError> {
    let ended = run(program, args, limit).await?;
    match ended.code {
        Some(0) => Ok(ended.stdout),
        _ => Err(ProgramError::Failed { program, complaint: ended.complaint }),
    }
}
