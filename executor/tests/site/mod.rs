//! A site for the tests: a signer that grants, a control plane that collects, and executors that
//! can be killed. Docker is real; nothing is skipped when it is missing.
#![allow(dead_code)] // each test binary uses its own part of it

mod collector;
mod host;
mod orders;
pub mod stuck;
pub mod switchboard;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use collector::{Mood, enrol, take_loss, take_output, take_started};
use domain::ids::{ExecId, ExecutorId, SessionId, TenantId};
use ed25519_dalek::SigningKey;
use executor::control::ControlPlane;
use executor::data_dir::DataDir;
use executor::docker::Docker;
use executor::executor::{Executor, Parts};
use executor::journal::Journal;
use executor::profile::HostFeatures;
use executor::sandboxes::{Lifecycle, Site as SandboxSite};
use executor::spool_folder::SpoolFolder;
use executor::workspace::{WorkspaceKind, Workspaces};
use protocol::binary::Binary;
use protocol::calls::{Call, CallKind};
use protocol::enrolment::Enrolment;
use protocol::exec::{ExecOrder, ExecResult, ToolReply, ToolRequest};
use sealing::Key;
use switchboard::{ClientBody, Replied, Switchboard};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Bytes of output that may wait for the control plane before nothing further starts.
pub const SPOOL_LIMIT_BYTES: u64 = 1 << 30;
/// The uid that the tests' commands run under.
pub const UID: u32 = 10_007;

/// What the control plane answers to an executor, once it is there.
pub type Offer = Arc<Mutex<Option<Enrolment>>>;
pub type Received = Arc<Mutex<HashMap<(String, String), Vec<u8>>>>;

/// One host with one tenant. Its containers and folders go with it.
pub struct Site {
    folder: PathBuf,
    tenant: TenantId,
    signing: SigningKey,
    payload_key: Key,
    image: String,
    url: String,
    executor_id: Mutex<Option<ExecutorId>>,
    received: Received,
    started: Arc<Mutex<Vec<String>>>,
    enrolment: Offer,
    /// Of the executor's last start.
    epoch: AtomicU64,
    pub calls: Switchboard,
    pub mood: Mood,
    /// How long refused output is offered. A change counts from the next life on.
    pub output_patience: Duration,
    /// How long sandboxes live, and how many wait. Changes count from the next life on.
    pub lifecycle: Lifecycle,
    pub workspaces: WorkspaceKind,
    /// Docker's socket.
    pub docker_host: String,
    pub runtime: Option<String>,
    /// Runs the control plane's side.
    _control: Runtime,
}

/// One life of an executor.
pub struct Life {
    pub runtime: Runtime,
    pub executor: Arc<Executor>,
    _data: DataDir,
}

impl Site {
    pub fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        // Short, because a socket's path has to be; the end of the id is its random part.
        let folder =
            PathBuf::from(format!("/tmp/bh-{}", &Uuid::now_v7().simple().to_string()[20..]));
        let received = Received::default();
        let enrolment = Arc::new(Mutex::new(None));
        let started = Arc::new(Mutex::new(Vec::new()));
        let mood = Mood::default();
        let runtime = Runtime::new().expect("runtime");
        let app = Router::new()
            .route("/v1/executors", post(enrol))
            .route("/v1/executors/execs/{id}/output", post(take_output))
            .route("/v1/executors/execs/{id}/started", post(take_started))
            .route("/v1/executors/execs/{id}/lost", post(take_loss))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state((Arc::clone(&received), Arc::clone(&started)))
            .layer(axum::Extension(Arc::clone(&enrolment)))
            .layer(axum::Extension(mood.clone()));
        let calls = Switchboard::new();
        let app = calls.routes(app);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        runtime.spawn(async move { axum::serve(listener, app).await });
        let name = std::env::var("BULKHEAD_SANDBOX_IMAGE")
            .unwrap_or_else(|_| "bulkhead-sandbox:bookworm".into());
        let image = runtime.block_on(async {
            let docker = Docker::connect("unix:///var/run/docker.sock").await.expect("Docker");
            docker.get_image_digest(&name).await.expect("the sandbox image")
        });
        Self {
            folder,
            tenant: Uuid::now_v7().into(),
            signing: SigningKey::from_bytes(&[3; 32]),
            payload_key: Key::generate().expect("random"),
            image,
            url,
            executor_id: Mutex::new(None),
            received,
            started,
            enrolment,
            epoch: AtomicU64::new(0),
            calls,
            mood,
            output_patience: Duration::from_secs(3600),
            lifecycle: Lifecycle {
                pool_size: 0,
                idle_timeout: Duration::from_secs(900),
                max_lifetime: Duration::from_secs(86_400),
            },
            workspaces: WorkspaceKind::Loop,
            docker_host: "unix:///var/run/docker.sock".into(),
            runtime: None,
            _control: runtime,
        }
    }

    /// Starts an executor on this site's data, as the first or a later life.
    pub fn start(&self) -> Life {
        let runtime = Runtime::new().expect("runtime");
        let data = DataDir::open(&self.folder.join("data")).expect("data folder");
        *self.executor_id.lock().expect("lock") = Some(data.executor_id());
        let executor = runtime.block_on(async {
            let docker = Docker::connect(&self.docker_host).await.expect("Docker");
            let facts = docker.facts().await.expect("Docker's facts");
            let folder = data.workspaces();
            let workspaces = Workspaces::open(self.workspaces, &folder, UID);
            let site = SandboxSite {
                docker,
                journal: Journal::open(&data.journal()).expect("journal"),
                executor_id: data.executor_id(),
                epoch: self.next_epoch(),
                tenant_id: self.tenant,
                uid: UID,
                run_dir: self.folder.join("run"),
                init_program: init_program(),
                workspaces: workspaces.await.expect("workspaces"),
                host: HostFeatures::of(&facts, self.runtime.as_deref()).expect("the runtime"),
                default_image: self.image.clone(),
                lifecycle: self.lifecycle,
            };
            let url = self.url.parse().expect("url");
            let parts = Parts {
                site,
                spool: SpoolFolder::new(data.spool(), SPOOL_LIMIT_BYTES),
                control: Arc::new(ControlPlane::new(url, "token".into()).expect("client")),
                output_patience: self.output_patience,
                payload_key: self.payload_key.clone(),
                grant_key: self.signing.verifying_key().to_bytes(),
            };
            Executor::start(parts).await.expect("starts")
        });
        Life { runtime, executor: Arc::new(executor), _data: data }
    }

    /// Runs the program itself, with its Temporal at `temporal_address`.
    pub fn spawn(&self, temporal_address: &str, task_queues: &[&str]) -> std::process::Child {
        self.spawn_doomed(temporal_address, task_queues, None)
    }

    /// The same, to die at a failpoint.
    pub fn spawn_doomed(
        &self,
        temporal_address: &str,
        task_queues: &[&str],
        failpoint: Option<&str>,
    ) -> std::process::Child {
        let mut program = self.program(temporal_address, task_queues);
        program.envs(failpoint.map(|failpoint| ("BULKHEAD_FAILPOINT", failpoint)));
        program.spawn().expect("the executor starts")
    }

    /// The program itself, to be started.
    pub fn program(&self, temporal_address: &str, task_queues: &[&str]) -> Command {
        *self.enrolment.lock().expect("lock") = Some(Enrolment {
            epoch: self.next_epoch(),
            tenant_id: self.tenant,
            tenant_name: "acme".into(),
            sandbox_uid: UID,
            temporal_address: temporal_address.into(),
            temporal_namespace: "default".into(),
            task_queues: task_queues.iter().map(|queue| (*queue).to_owned()).collect(),
            grant_key: Binary(self.signing.verifying_key().to_bytes().to_vec()),
            payload_key: Binary(self.payload_key.expose().to_vec()),
        });
        let mut program = Command::new(env!("CARGO_BIN_EXE_bulkhead-executor"));
        program
            .env("BULKHEAD_URL", &self.url)
            .env("BULKHEAD_EXECUTOR_TOKEN", "token")
            .env("BULKHEAD_DATA_DIR", self.folder.join("data"))
            .env("BULKHEAD_RUN_DIR", self.folder.join("run"))
            .env("BULKHEAD_SANDBOX_INIT", init_program())
            .env("BULKHEAD_SANDBOX_IMAGE", &self.image)
            .env("BULKHEAD_POOL_SIZE", "0");
        program
    }

    fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Makes a call and waits for its answer.
    pub fn call(&self, session_id: SessionId, what: CallKind, body: ClientBody) -> Replied {
        self.calls.wait(self.ring(session_id, what, body))
    }

    /// Makes a call.
    pub fn ring(
        &self,
        session_id: SessionId,
        what: CallKind,
        body: ClientBody,
    ) -> domain::ids::CallId {
        let order = self.order(session_id, "");
        let (limits, image_digest) = (order.limits, order.image_digest);
        let call = Call {
            session_id,
            limits,
            image_digest,
            min_generation: 1,
            token_id: None,
            what,
            timeout_ms: 20_000,
        };
        self.calls.ring(&self.url, call, body)
    }

    /// What was reported directly of an exec.
    pub fn reported(&self, exec_id: ExecId) -> Vec<ExecResult> {
        let replies = self.calls.results(&exec_id.to_string());
        replies.iter().map(|reply| self.result(exec_id, reply)).collect()
    }

    /// The tenant of this site.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Whether an executor was ever started here.
    pub fn has_executor(&self) -> bool {
        self.folder.join("data/executor-id").exists()
    }

    /// Who the executor of this site is: known from its first start on.
    pub fn executor_id(&self) -> ExecutorId {
        let id = std::fs::read_to_string(self.folder.join("data/executor-id"));
        id.expect("an executor has run here").trim().parse().expect("an id")
    }

    /// Runs a command to its end.
    pub fn run(&self, life: &Life, order: &ExecOrder) -> ExecResult {
        self.result(order.exec_id, &life.exec(&self.grant(order)))
    }

    pub fn image_digest(&self) -> &str {
        &self.image
    }

    /// Where this site keeps everything.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Output that the control plane has of an exec.
    pub fn shipped(&self, exec_id: ExecId, stream: &str) -> Vec<u8> {
        let received = self.received.lock().expect("lock");
        received.get(&(exec_id.to_string(), stream.to_owned())).cloned().unwrap_or_default()
    }

    pub fn wait_started(&self, exec_id: ExecId) {
        wait_until("the start is reported", || {
            self.started.lock().expect("lock").contains(&exec_id.to_string())
        });
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let id = std::fs::read_to_string(self.folder.join("data/executor-id"));
        *self.executor_id.lock().expect("lock") = id.ok().and_then(|id| id.trim().parse().ok());
        for container in self.containers() {
            docker(&["rm", "-fv", &container]);
        }
        if self.has_executor() {
            for volume in self.volumes() {
                docker(&["volume", "rm", "-f", &volume]);
            }
        }
        for device in self.loops() {
            let _ = Command::new("losetup").arg("-d").arg(device).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Life {
    pub fn exec(&self, request: &ToolRequest) -> ToolReply {
        let never = CancellationToken::new();
        self.runtime.block_on(self.executor.exec(request, &never)).expect("a reply")
    }

    /// Begins a command in the background. The token calls it off.
    pub fn begin(
        &self,
        request: ToolRequest,
    ) -> (tokio::task::JoinHandle<ToolReply>, CancellationToken) {
        let (executor, cancel) = (Arc::clone(&self.executor), CancellationToken::new());
        let token = cancel.clone();
        let task = self
            .runtime
            .spawn(async move { executor.exec(&request, &token).await.expect("a reply") });
        (task, cancel)
    }

    pub fn wait<T>(&self, task: tokio::task::JoinHandle<T>) -> T {
        self.runtime.block_on(task).expect("ends")
    }

    /// Ends the process as a crash would: every task stops where it is.
    pub fn kill(self) {
        let Self { runtime, executor, _data } = self;
        runtime.shutdown_timeout(Duration::from_secs(10));
        drop(executor);
    }
}

pub fn session() -> SessionId {
    Uuid::now_v7().into()
}

pub fn text(summary: &protocol::exec::StreamSummary) -> String {
    String::from_utf8(summary.whole().expect("short output")).expect("UTF-8")
}

/// Why an order was not started, when it is asked for by this request.
pub fn why(
    site: &Site,
    life: &Life,
    order: &ExecOrder,
    request: &ToolRequest,
) -> protocol::exec::NotStarted {
    site.why(order.exec_id, &life.exec(request))
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited for too long: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().expect("the docker command");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

fn init_program() -> PathBuf {
    let default = "../target/static/x86_64-unknown-linux-gnu/sandbox-init/sandbox-init";
    let path = std::env::var("BULKHEAD_SANDBOX_INIT")
        .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(default), PathBuf::from);
    path.canonicalize().expect("a static sandbox-init: run `cargo xtask setup`")
}
