//! Configuration of both processes, from flags, environment and a file (see `settings`).
//!
//! What holds a secret cannot be printed: it has no `Debug`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use traces::TraceConfig;

/// Where the control plane's own secrets are.
#[derive(Args, Debug, Clone)]
pub struct KeyConfig {
    /// Folder with the control plane's keys; `migrate` makes missing ones
    #[arg(long, env = "BULKHEAD_KEY_DIR")]
    pub key_dir: PathBuf,
}

/// What every command needs.
#[derive(Args, Clone)]
pub struct DatabaseConfig {
    /// Postgres, such as postgres://bulkhead_app:…@host/bulkhead
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// The control plane's own secrets
    #[command(flatten)]
    pub keys: KeyConfig,
}

/// Where Temporal is.
#[derive(Args, Clone)]
pub struct TemporalConfig {
    /// Address of the Temporal server
    #[arg(long, env = "TEMPORAL_ADDRESS", default_value = "http://localhost:7233")]
    pub temporal_address: String,
    /// Temporal namespace
    #[arg(long, env = "TEMPORAL_NAMESPACE", default_value = "default")]
    pub temporal_namespace: String,
    /// API key for Temporal Cloud
    #[arg(long, env = "TEMPORAL_API_KEY", hide_env_values = true)]
    pub temporal_api_key: Option<String>,
}

/// When an executor counts as gone.
#[derive(Args, Debug, Clone)]
pub struct PatienceConfig {
    /// Seconds without a word from an executor after which its sessions move to another one
    #[arg(long, env = "BULKHEAD_EXECUTOR_GONE_AFTER_S", default_value_t = 300.0)]
    pub executor_gone_after_s: f64,
}

/// How the audit log is looked after.
#[derive(Args, Debug, Clone)]
pub struct UpkeepConfig {
    /// Seconds between two looks for execs and work on files without an outcome
    #[arg(long, env = "BULKHEAD_AUDIT_SWEEP_S", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub audit_sweep_s: u64,
    /// Seconds after the end of its time from which an exec, or work on files, that nobody
    /// told anything of is closed as unknown; longer than any permission to start it is good for
    #[arg(long, env = "BULKHEAD_UNKNOWN_AFTER_S", default_value_t = 86_400)]
    #[arg(value_parser = clap::value_parser!(u32).range(600..))]
    pub unknown_after_s: u32,
}

/// How much one caller may ask for.
#[derive(Args, Debug, Clone)]
pub struct CallerConfig {
    /// Requests per minute of one token
    #[arg(long, env = "BULKHEAD_TOKEN_REQUESTS_PER_MINUTE", default_value_t = 30_000)]
    pub token_requests_per_minute: i64,
    /// Requests per minute of all tokens of a tenant together
    #[arg(long, env = "BULKHEAD_TENANT_REQUESTS_PER_MINUTE", default_value_t = 120_000)]
    pub tenant_requests_per_minute: i64,
    /// Requests per minute of one executor's token
    #[arg(long, env = "BULKHEAD_EXECUTOR_REQUESTS_PER_MINUTE", default_value_t = 120_000)]
    pub executor_requests_per_minute: i64,
    /// Requests per minute and address without a good token, at each instance
    #[arg(long, env = "BULKHEAD_ANONYMOUS_REQUESTS_PER_MINUTE", default_value_t = 3_000)]
    pub anonymous_requests_per_minute: i64,
    /// Connections that one address may have at each instance
    #[arg(long, env = "BULKHEAD_CONNECTIONS_PER_ADDRESS", default_value_t = 2_048)]
    pub connections_per_address: usize,
    /// Event streams that one token may have open at each instance
    #[arg(long, env = "BULKHEAD_STREAMS_PER_TOKEN", default_value_t = 250)]
    pub streams_per_token: usize,
    /// Event streams that all tokens of a tenant together may have open at each instance
    #[arg(long, env = "BULKHEAD_STREAMS_PER_TENANT", default_value_t = 1_500)]
    pub streams_per_tenant: usize,
    /// Seconds that the reader of a stream may take for one event
    #[arg(long, env = "BULKHEAD_STREAM_STALL_S", default_value_t = 20)]
    pub stream_stall_s: u64,
}

/// What `serve` needs on top.
#[derive(Args, Clone)]
pub struct ServeConfig {
    /// Database and keys
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// Temporal
    #[command(flatten)]
    pub temporal: TemporalConfig,
    /// Where traces go
    #[command(flatten)]
    pub traces: TraceConfig,
    /// Address to listen on
    #[arg(long, env = "BULKHEAD_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Address at which executors reach this very process; http:// and `--listen` if left out
    #[arg(long, env = "BULKHEAD_ADVERTISE_URL")]
    pub advertise_url: Option<String>,
    /// When an executor counts as gone
    #[command(flatten)]
    pub patience: PatienceConfig,
    /// File outside the database to which audit checkpoints are appended; checkpoints.jsonl beside
    /// the key folder if left out
    #[arg(long, env = "BULKHEAD_CHECKPOINT_FILE")]
    pub checkpoint_file: Option<PathBuf>,
    /// How the audit log is looked after
    #[command(flatten)]
    pub upkeep: UpkeepConfig,
    /// How much one caller may ask for
    #[command(flatten)]
    pub callers: CallerConfig,
    /// Lets webhooks reach this machine and private networks, without TLS; for tests
    #[arg(long, env = "BULKHEAD_WEBHOOKS_ALLOW_PRIVATE", value_parser = clap::value_parser!(bool))]
    #[arg(default_value_t = false, action = clap::ArgAction::Set)]
    pub webhooks_allow_private: bool,
}

impl ServeConfig {
    /// Where audit checkpoints are appended.
    pub fn checkpoint_file(&self) -> PathBuf {
        let beside = || self.database.keys.key_dir.with_file_name("checkpoints.jsonl");
        self.checkpoint_file.clone().unwrap_or_else(beside)
    }
}

/// What `worker` needs on top.
#[derive(Args, Clone)]
pub struct WorkerConfig {
    /// Database and keys
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// Temporal
    #[command(flatten)]
    pub temporal: TemporalConfig,
    /// Where traces go
    #[command(flatten)]
    pub traces: TraceConfig,
    /// Key for the model provider; without it the offline demo model answers
    #[arg(long, env = "OPENAI_API_KEY", hide_env_values = true)]
    pub openai_api_key: Option<String>,
    /// Base address of the Responses API
    #[arg(long, env = "OPENAI_BASE_URL", default_value = "https://api.openai.com/v1")]
    pub openai_base_url: String,
    /// Model for sessions that name none
    #[arg(long, env = "CODEX_MODEL", default_value = "gpt-5.5")]
    pub model: String,
    /// When an executor counts as gone
    #[command(flatten)]
    pub patience: PatienceConfig,
}
