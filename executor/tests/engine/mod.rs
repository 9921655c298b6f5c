//! A real Temporal for the tests, a workflow that calls the executor's activities as a session's
//! does, and the executor's program.
#![allow(dead_code)] // each test binary uses its own part of it

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr as _;
use std::time::Duration;

use domain::ids::SessionId;
use protocol::exec::{ExecOrder, ToolReply, ToolRequest};
use protocol::session::CloseSandbox;
use serde::{Deserialize, Serialize};
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, Url, WorkflowHandle, WorkflowStartOptions,
};
use temporalio_common::RetryPolicy;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::runtime::RuntimeOptions;
use temporalio_sdk::workflows::select;
use temporalio_sdk::{
    ActivityCancellationType, ActivityOptions, Runtime, SyncWorkflowContext, Worker, WorkerOptions,
    WorkflowContext, WorkflowContextView, WorkflowResult,
};
use workflow::activities::Tools;

use crate::site::{Site, wait_until};

/// The queues of the executor's own and of its tenant; both have to be served.
pub const QUEUES: [&str; 2] = ["tool-exec/acme", "tool-exec/acme/exr_1"];

#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Input {
    request: ToolRequest,
    queue: String,
}

/// Calls the activity as the session's workflow does.
#[workflow]
#[derive(Clone)]
pub struct Caller {
    input: Input,
    called_off: bool,
}

#[workflow_methods]
impl Caller {
    #[init]
    pub fn new(_: &WorkflowContextView, input: Input) -> Self {
        Self { input, called_off: false }
    }

    #[run(name = "Caller")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<ToolReply> {
        let token = ctx.cancellation_token().child_token();
        let retry = RetryPolicy::builder()
            .initial_interval(Duration::from_millis(200))
            .maximum_interval(Duration::from_secs(1))
            .build();
        let options = ActivityOptions::with_start_to_close_timeout(Duration::from_secs(60))
            .task_queue(ctx.state(|s| s.input.queue.clone()))
            .heartbeat_timeout(Duration::from_secs(2))
            .cancellation_type(ActivityCancellationType::WaitCancellationCompleted)
            .cancellation_token(token.clone())
            .retry_policy(retry)
            .build();
        let request = ctx.state(|s| s.input.request.clone());
        let mut reply = ctx.execute_activity(Tools::tool_exec, request, options);
        let reply = select! {
            reply = reply => reply,
            _ = ctx.wait_condition(|s| s.called_off) => {
                token.cancel_with_reason("called off");
                reply.await
            }
        };
        Ok(reply?)
    }

    #[signal(name = "call_off")]
    pub fn call_off(&mut self, _: &mut SyncWorkflowContext<Self>) {
        self.called_off = true;
    }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Closing {
    close: CloseSandbox,
    queue: String,
}

/// Closes a session as its workflow does.
#[workflow]
#[derive(Clone)]
pub struct Closer {
    input: Closing,
}

#[workflow_methods]
impl Closer {
    #[init]
    pub fn new(_: &WorkflowContextView, input: Closing) -> Self {
        Self { input }
    }

    #[run(name = "Closer")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        let options = ActivityOptions::with_start_to_close_timeout(Duration::from_secs(10))
            .task_queue(ctx.state(|s| s.input.queue.clone()))
            .build();
        let close = ctx.state(|s| s.input.close);
        Ok(ctx.execute_activity(Tools::close_sandbox, close, options).await?)
    }
}

/// A Temporal of our own, with a worker for the workflow above.
pub struct Engine {
    server: Child,
    address: String,
    pub runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Engine {
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = port.expect("a free port").port().to_string();
        let server = Command::new(temporal_program())
            .args(["server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", &port])
            .args(["--log-level", "never"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the temporal command: run `cargo xtask setup`");
        let address = format!("http://127.0.0.1:{port}");
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        let client = runtime.block_on(connect(&address));
        let mut engine = Self { server, address, runtime, client };
        engine.work();
        engine
    }

    /// The SDK's worker stays on its thread, which ends with the test's process.
    fn work(&mut self) {
        let address = self.address.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("runtime").block_on(async {
                let options = RuntimeOptions::builder().build().expect("options");
                let runtime = Runtime::from_current_tokio(options).expect("runtime");
                let options = WorkerOptions::new("callers")
                    .register_workflow::<Caller>()
                    .expect("registers")
                    .register_workflow::<Closer>()
                    .expect("registers")
                    .build();
                let client = connect(&address).await;
                let mut worker = Worker::new(&runtime, client, options).expect("worker");
                let _ = worker.run().await;
            });
        });
    }

    pub fn call(
        &self,
        site: &Site,
        order: &ExecOrder,
        queue: &str,
    ) -> WorkflowHandle<Client, Caller> {
        self.request(site.grant(order), queue)
    }

    /// Hands a request to the executor, whatever it is about.
    pub fn request(&self, request: ToolRequest, queue: &str) -> WorkflowHandle<Client, Caller> {
        let id = format!("{}-{:?}", request.exec_id, request.intent);
        let input = Input { request, queue: queue.into() };
        let options = WorkflowStartOptions::new("callers", &id).build();
        let started = self.client.start_workflow(Caller::run, input, options);
        self.runtime.block_on(started).expect("starts");
        self.client.get_workflow_handle::<Caller>(id)
    }

    pub fn reply(&self, handle: &WorkflowHandle<Client, Caller>) -> ToolReply {
        self.runtime.block_on(async {
            let reply = handle.get_result(Default::default());
            let reply = tokio::time::timeout(Duration::from_secs(60), reply).await;
            reply.expect("in time").expect("a reply")
        })
    }
}

impl Engine {
    /// Asks for a session's end; waits for it with [`Engine::closed`].
    pub fn close(&self, site: &Site, session_id: SessionId) -> WorkflowHandle<Client, Closer> {
        let close = CloseSandbox { tenant_id: site.tenant(), session_id };
        let input = Closing { close, queue: QUEUES[1].into() };
        let id = session_id.to_string();
        let options = WorkflowStartOptions::new("callers", &id).build();
        let started = self.client.start_workflow(Closer::run, input, options);
        self.runtime.block_on(started).expect("starts");
        self.client.get_workflow_handle::<Closer>(id)
    }

    pub fn closed(&self, handle: &WorkflowHandle<Client, Closer>) {
        self.runtime.block_on(async {
            let end = handle.get_result(Default::default());
            let end = tokio::time::timeout(Duration::from_secs(60), end).await;
            end.expect("in time").expect("closes");
        });
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// An executor process that does not outlive its test.
pub struct Program(Child);

impl Program {
    pub fn start(site: &Site, engine: &Engine) -> Self {
        Self(site.spawn(&engine.address, &QUEUES))
    }

    /// A life that ends at a failpoint.
    pub fn start_doomed(site: &Site, engine: &Engine, failpoint: &str) -> Self {
        Self(site.spawn_doomed(&engine.address, &QUEUES, Some(failpoint)))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended by itself.
    pub fn wait(mut self) -> ExitStatus {
        wait_until("it ends", || self.0.try_wait().expect("its status").is_some());
        self.0.wait().expect("its status")
    }

    /// Asks it to stop and waits until it has.
    pub fn stop(mut self) {
        let killed = Command::new("kill").arg(self.0.id().to_string()).status().expect("kill");
        assert!(killed.success());
        wait_until("it stops", || self.0.try_wait().expect("its status").is_some());
        assert!(self.0.wait().expect("its status").success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn temporal_program() -> PathBuf {
    let own = std::env::var_os("BULKHEAD_TEMPORAL").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let installed = home.join(".cache/bulkhead/tools/temporal");
    own.unwrap_or(if installed.is_file() { installed } else { "temporal".into() })
}

async fn connect(address: &str) -> Client {
    let target = Url::from_str(address).expect("url");
    for _ in 0..300 {
        let options = ConnectionOptions::new(target.clone()).identity("test".to_owned()).build();
        if let Ok(connection) = Connection::connect(options).await {
            let client = Client::new(connection, ClientOptions::new("default").build());
            return client.expect("client");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("Temporal did not start");
}
