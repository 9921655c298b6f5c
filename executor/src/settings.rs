//! Command line and environment of the executor. Secrets are read here and never printed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use traces::TraceConfig;

use crate::sandboxes::Lifecycle;
use crate::workspace::WorkspaceKind;

/// What can be wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No token at all.
    #[error(
        "no executor token: set BULKHEAD_EXECUTOR_TOKEN, or BULKHEAD_EXECUTOR_TOKEN_FILE to a \
         file that contains it"
    )]
    NoToken,
    /// The token file cannot be read.
    #[error("cannot read the token file {path}: create it or correct BULKHEAD_EXECUTOR_TOKEN_FILE")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The program that becomes PID 1 of every sandbox is not there.
    #[error(
        "{0} is not there: build sandbox-init (`cargo xtask setup`) or set BULKHEAD_SANDBOX_INIT \
         to its path on this host"
    )]
    NoInit(PathBuf),
}

/// Runs one tenant's commands in sandboxes on this host.
#[derive(Parser)]
#[command(name = "bulkhead-executor", version, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true)]
pub struct Cli {
    /// Something else than working.
    #[command(subcommand)]
    pub task: Option<Task>,
    /// How to work.
    #[command(flatten)]
    pub settings: Option<Settings>,
}

/// Arguments of the program when it works.
#[derive(Parser)]
#[command(name = "bulkhead-executor", version)]
pub struct Work {
    /// How to work.
    #[command(flatten)]
    pub settings: Settings,
}

/// What the program does besides working.
#[derive(Subcommand)]
pub enum Task {
    /// Tells how well this host isolates, and what would make it better.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// This host.
        #[command(flatten)]
        host: HostSettings,
    },
}

/// What the host offers, and what is demanded of it.
#[derive(Args)]
pub struct HostSettings {
    /// Docker's Unix socket.
    #[arg(long, env = "DOCKER_HOST", default_value = "unix:///var/run/docker.sock")]
    pub docker_host: String,
    /// Docker's OCI runtime for sandboxes, such as `runsc` [default: Docker's own].
    #[arg(long, env = "BULKHEAD_RUNTIME")]
    pub runtime: Option<String>,
    /// The default image of sandboxes.
    #[arg(long, env = "BULKHEAD_SANDBOX_IMAGE", default_value = "bulkhead-sandbox:bookworm")]
    pub sandbox_image: String,
    /// What workspaces are kept on.
    #[arg(long, env = "BULKHEAD_WORKSPACE", value_enum, default_value = "auto")]
    pub workspace: WorkspaceKind,
    /// Least isolation tier; below, the executor does not start. See `doctor`.
    #[arg(long, env = "BULKHEAD_MIN_TIER", default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(0..=3))]
    pub min_tier: u8,
}

/// How to work.
#[derive(Args)]
pub struct Settings {
    /// Base URL of the control plane.
    #[arg(long, env = "BULKHEAD_URL")]
    pub url: reqwest::Url,
    /// This executor's token.
    #[arg(long, env = "BULKHEAD_EXECUTOR_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File that contains this executor's token.
    #[arg(long, env = "BULKHEAD_EXECUTOR_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Folder for the journal, the spool and the executor's id. One executor at a time.
    #[arg(long, env = "BULKHEAD_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Folder for sockets. Keep it short: the kernel allows 107 bytes for a socket's path.
    #[arg(long, env = "BULKHEAD_RUN_DIR", default_value = "/run/bulkhead")]
    pub run_dir: PathBuf,
    /// The static sandbox-init program on this host [default: beside this program].
    #[arg(long, env = "BULKHEAD_SANDBOX_INIT")]
    sandbox_init: Option<PathBuf>,
    /// The host.
    #[command(flatten)]
    pub host: HostSettings,
    /// Containers that wait for sessions (0 to 64).
    #[arg(long, env = "BULKHEAD_POOL_SIZE", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(0..=64))]
    pool_size: u16,
    /// Seconds without a command after which a container is removed; its workspace stays.
    #[arg(long, env = "BULKHEAD_IDLE_TIMEOUT_S", default_value_t = 900,
        value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    idle_timeout_s: u64,
    /// Seconds after which a container is replaced between two commands.
    #[arg(long, env = "BULKHEAD_MAX_LIFETIME_S", default_value_t = 86_400,
        value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    max_lifetime_s: u64,
    /// MiB of output that may wait for the control plane before no further command starts (256 to
    /// 1048576).
    #[arg(long, env = "BULKHEAD_SPOOL_LIMIT_MIB", default_value_t = 4096,
        value_parser = clap::value_parser!(u64).range(256..=1_048_576))]
    spool_limit_mib: u64,
    /// Seconds for which output that the control plane refuses is offered again before it counts as
    /// lost. An absent control plane is waited for without end.
    #[arg(long, env = "BULKHEAD_OUTPUT_PATIENCE_S", default_value_t = 3600,
        value_parser = clap::value_parser!(u64).range(1..=604_800))]
    output_patience_s: u64,
    /// Where traces go.
    #[command(flatten)]
    pub traces: TraceConfig,
    /// Key for Temporal, where it wants one.
    #[arg(long, env = "TEMPORAL_API_KEY", hide_env_values = true)]
    pub temporal_api_key: Option<String>,
}

impl Settings {
    /// How long sandboxes live, and how many wait.
    pub fn lifecycle(&self) -> Lifecycle {
        Lifecycle {
            pool_size: self.pool_size.into(),
            idle_timeout: Duration::from_secs(self.idle_timeout_s),
            max_lifetime: Duration::from_secs(self.max_lifetime_s),
        }
    }

    /// Bytes of output that may wait for the control plane.
    pub fn spool_limit_bytes(&self) -> u64 {
        self.spool_limit_mib * 1024 * 1024
    }

    /// How long output that the control plane refuses is offered again.
    pub fn output_patience(&self) -> Duration {
        Duration::from_secs(self.output_patience_s)
    }

    /// The bearer token, from the variable or the file.
    ///
    /// # Errors
    /// When there is none, or the file cannot be read.
    pub fn token(&self) -> Result<String, SettingsError> {
        if let Some(token) = self.token.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            return Ok(token.to_owned());
        }
        let path = self.token_file.clone().ok_or(SettingsError::NoToken)?;
        let text = std::fs::read_to_string(&path)
            .map_err(|source| SettingsError::TokenFile { path, source })?;
        let token = text.trim();
        if token.is_empty() { Err(SettingsError::NoToken) } else { Ok(token.to_owned()) }
    }

    /// Absolute path of the program that becomes PID 1.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn sandbox_init(&self) -> Result<PathBuf, SettingsError> {
        let path = match &self.sandbox_init {
            Some(path) => path.clone(),
            None => std::env::current_exe().unwrap_or_default().with_file_name("sandbox-init"),
        };
        match path.canonicalize() {
            Ok(found) if found.is_file() => Ok(found),
            _ => Err(SettingsError::NoInit(path)),
        }
    }
}
