//! One program that `dev` keeps running: its command line, its log, how it is stopped.
//!
//! Started through `setpriv`, which becomes the program: it gets a signal when we die without
//! having stopped it, and its own user where it needs one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::DevError;
use super::layout::{self, Layout};
use super::log::open_append;

/// Variables that every program gets from us, if we have them; nothing else is passed on.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "NO_PROXY",
    "USER",
];

/// The order of stopping: the last stage first. One stage's services stop together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// What everything else stands on: Temporal and Postgres.
    Ground,
    /// The HTTP API.
    Api,
    /// What does the work: the worker and the executors.
    Work,
}

impl Stage {
    /// In the order of stopping.
    pub(super) const STOPPING: [Self; 3] = [Self::Work, Self::Api, Self::Ground];
}

/// A user that a program runs as.
#[derive(Debug, Clone, Copy)]
pub(super) struct OsUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// How to run one program.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) stage: Stage,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    user: Option<OsUser>,
    log: PathBuf,
    /// Asks it to stop.
    pub(super) stop_signal: Signal,
    /// How long it may take to.
    pub(super) stop_limit: Duration,
}

impl Service {
    /// A program that runs as ourselves and stops at SIGTERM.
    pub(super) fn new(
        layout: &Layout,
        stage: Stage,
        name: &str,
        program: impl Into<PathBuf>,
    ) -> Self {
        Self {
            name: name.into(),
            stage,
            program: program.into(),
            arguments: Vec::new(),
            environment: inherited(),
            user: None,
            log: layout.log_of(name),
            stop_signal: Signal::SIGTERM,
            stop_limit: Duration::from_secs(8),
        }
    }

    /// Adds arguments.
    pub(super) fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a variable.
    pub(super) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Passes a variable of ours on, if we have it.
    pub(super) fn env_from_ours(self, name: &str) -> Self {
        match std::env::var_os(name) {
            Some(value) => self.env(name, value),
            None => self,
        }
    }

    /// Stops at another signal than SIGTERM.
    pub(super) fn stop_with(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Runs as another user.
    pub(super) fn user(mut self, user: Option<OsUser>) -> Self {
        self.user = user;
        self
    }

    /// Starts it in a process group of its own, its output appended to its log.
    pub(super) fn spawn(&self) -> Result<Child, DevError> {
        let log = open_append(&self.log)?;
        let second = log.try_clone().map_err(DevError::file("open the log", &self.log))?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log).stderr(second).process_group(0);
        command.spawn().map_err(|source| DevError::Spawn { name: self.name.clone(), source })
    }

    /// The command line with `setpriv` around it.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig").arg(self.stop_signal.as_str().trim_start_matches("SIG"));
        if let Some(OsUser { uid, gid }) = self.user {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
            command.arg("--clear-groups");
        }
        command.arg("--").arg(&self.program).args(&self.arguments);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Every path is absolute, and another user may not enter the folder that we were called in.
        command.current_dir("/");
        command
    }

    /// The error that it did not become ready, with the end of its log.
    pub(super) fn not_ready(&self, why: impl Into<String>) -> DevError {
        DevError::NotReady {
            name: self.name.clone(),
            why: why.into(),
            log: self.log.clone(),
            tail: layout::tail(&self.log, 15),
        }
    }

    /// What it wrote last, for whoever waits for it.
    pub(super) fn last_words(&self) -> String {
        layout::tail(&self.log, 1).trim().to_owned()
    }

    /// Runs it to its end and returns what it wrote to stdout; for programs that do one thing.
    pub(super) async fn run_once(&self, stdin: &[u8], limit: Duration) -> Result<String, DevError> {
        let failed = |outcome: String, tail: String| DevError::Step {
            name: self.name.clone(),
            outcome,
            tail,
        };
        let mut command = tokio::process::Command::from(self.command());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.kill_on_drop(true).spawn();
        let mut child =
            child.map_err(|source| DevError::Spawn { name: self.name.clone(), source })?;
        let ended = tokio::time::timeout(limit, async {
            if let Some(mut pipe) = child.stdin.take() {
                // One that does not read its input says in its own words why.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut pipe, stdin).await;
            }
            child.wait_with_output().await
        });
        let output = match ended.await {
            Err(_) => {
                return Err(failed(format!("no end after {} s", limit.as_secs()), String::new()));
            }
            Ok(Err(source)) => return Err(failed(source.to_string(), String::new())),
            Ok(Ok(output)) => output,
        };
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(failed(output.status.to_string(), said.trim().to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn inherited() -> Vec<(OsString, OsString)> {
    // Where traces go, as OpenTelemetry names it.
    let traces =
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_"));
    let named = INHERITED.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    named.chain(traces).collect()
}
