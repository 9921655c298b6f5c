//! The control plane's programs: migrations, the HTTP API, the worker.

use std::time::Duration;

use super::DevError;
use super::layout::Layout;
use super::postgres::Cluster;
use super::postgres_roles::{APP, OWNER};
use super::programs::Programs;
use super::service::{Service, Stage};

/// Name of the HTTP API's service.
pub(super) const API: &str = "control-plane";
/// Name of the worker's service.
pub(super) const WORKER: &str = "worker";
/// How long the HTTP API may take to be ready.
pub(super) const START_LIMIT: Duration = Duration::from_secs(60);
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// What the HTTP API gets of our environment, if it is there.
const SERVE_VARIABLES: [&str; 9] = [
    "BULKHEAD_ANONYMOUS_REQUESTS_PER_MINUTE",
    "BULKHEAD_CONNECTIONS_PER_ADDRESS",
    "BULKHEAD_EXECUTOR_REQUESTS_PER_MINUTE",
    "BULKHEAD_STREAMS_PER_TENANT",
    "BULKHEAD_STREAMS_PER_TOKEN",
    "BULKHEAD_STREAM_STALL_S",
    "BULKHEAD_TENANT_REQUESTS_PER_MINUTE",
    "BULKHEAD_TOKEN_REQUESTS_PER_MINUTE",
    "BULKHEAD_WEBHOOKS_ALLOW_PRIVATE",
];
/// What the worker alone gets.
const MODEL_VARIABLES: [&str; 3] = ["OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_MODEL"];

/// Everything that the control plane's programs need to know.
pub(super) struct ControlPlane<'a> {
    pub(super) layout: &'a Layout,
    pub(super) programs: &'a Programs,
    pub(super) cluster: &'a Cluster,
    pub(super) temporal_address: &'a str,
    pub(super) port: u16,
}

impl ControlPlane<'_> {
    /// Where clients find it.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it finds its tables.
    pub(super) fn database_url(&self) -> String {
        self.cluster.url(APP, &self.cluster.passwords.app)
    }

    /// Brings the tables and the keys up to date.
    pub(super) async fn migrate(&self) -> Result<(), DevError> {
        let owner_url = self.cluster.url(OWNER, &self.cluster.passwords.owner);
        let migrate = self.program("migrate", "migrate", &owner_url);
        migrate.run_once(b"", STEP_LIMIT).await.map(drop)
    }

    /// Makes a token for the platform.
    pub(super) async fn platform_token(&self) -> Result<String, DevError> {
        let program = self.program("platform-token", "platform-token", &self.database_url());
        let said = program.run_once(b"", STEP_LIMIT).await?;
        let token = said.trim();
        let is_token = !token.is_empty() && !token.contains(char::is_whitespace);
        is_token.then(|| token.to_owned()).ok_or_else(|| DevError::Garbled {
            what: "what `bulkhead-control-plane platform-token` printed".into(),
        })
    }

    /// The HTTP API. It gets no key of a model provider.
    pub(super) fn api(&self) -> Service {
        let mut api = self
            .program(API, "serve", &self.database_url())
            .env("BULKHEAD_LISTEN", format!("127.0.0.1:{}", self.port))
            .env("TEMPORAL_ADDRESS", self.temporal_address);
        for name in SERVE_VARIABLES {
            api = api.env_from_ours(name);
        }
        api
    }

    /// The worker.
    pub(super) fn worker(&self) -> Service {
        let mut worker = self
            .program(WORKER, "worker", &self.database_url())
            .env("TEMPORAL_ADDRESS", self.temporal_address);
        for name in MODEL_VARIABLES {
            worker = worker.env_from_ours(name);
        }
        worker.stage = Stage::Work;
        worker
    }

    fn program(&self, name: &str, command: &str, database_url: &str) -> Service {
        Service::new(self.layout, Stage::Api, name, &self.programs.control_plane)
            .args([command])
            .env("DATABASE_URL", database_url)
            .env("BULKHEAD_KEY_DIR", self.layout.keys())
    }
}
