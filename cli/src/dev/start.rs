//! The start of everything, in order, and watching it until it is told to stop.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use time::OffsetDateTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, sleep_until};

use super::control_plane::ControlPlane;
use super::layout::Layout;
use super::lock::DevLock;
use super::log::DevLog;
use super::postgres::Cluster;
use super::programs::Programs;
use super::supervisor::Supervisor;
use super::{
    DevError, StartArguments, control_plane, executors, ports, postgres, postgres_roles, temporal,
    tenants,
};
use crate::client::Client;
use crate::console;
use crate::dev_file::DevFile;

/// Deaths are told by a signal; this is for one that went missing.
const CHECK: Duration = Duration::from_secs(1);
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Starts everything and returns when told to stop.
pub(super) async fn run(arguments: &StartArguments) -> Result<()> {
    let begin = Instant::now();
    let layout = Layout::create(&arguments.folder.data_dir)?;
    if arguments.detached {
        // Fails only for the leader of a process group, which is detached well enough.
        let _ = nix::unistd::setsid();
    }
    let mut stop = StopSignals::new()?;
    let _lock = DevLock::take(layout.root())?;
    DevFile::remove(layout.root())?;
    let log = Rc::new(DevLog::open(&layout.log_of("dev"), !arguments.detached)?);
    let mut supervisor = Supervisor::new(log.clone());
    let outcome = tokio::select! {
        started = start(arguments, &layout, &log, &mut supervisor) => started.map(Some),
        () = stop.recv() => Ok(None),
    };
    let outcome = match outcome {
        Ok(Some(file)) => {
            announce(arguments, &layout, &log, &file, begin)?;
            watch(&layout, &mut supervisor, file, &mut stop).await
        }
        Ok(None) => Ok(()),
        Err(problem) => {
            log.note(&problem);
            Err(anyhow::Error::from(problem))
        }
    };
    log.say("stopping");
    DevFile::remove(layout.root())?;
    supervisor.stop().await;
    log.say("stopped");
    outcome
}

async fn start(
    arguments: &StartArguments,
    layout: &Layout,
    log: &DevLog,
    supervisor: &mut Supervisor,
) -> Result<DevFile, DevError> {
    let programs = Programs::find()?;
    let temporal_port = ports::choose(arguments.temporal_port)?;
    let temporal_http_port = ports::choose(None)?;
    log.say("starting Temporal and Postgres");
    supervisor.start(temporal::service(layout, &programs, temporal_port, temporal_http_port))?;
    let port = ports::choose(arguments.postgres_port)?;
    let cluster = Cluster::prepare(layout, log, port).await?;
    supervisor.start(cluster.service(layout))?;
    let ready = async || cluster.is_ready(layout).await;
    supervisor.wait_until(postgres::NAME, postgres::START_LIMIT, ready).await?;
    postgres_roles::ensure(layout, &cluster).await?;

    let temporal_address = format!("http://127.0.0.1:{temporal_port}");
    let control_plane = ControlPlane {
        layout,
        programs: &programs,
        cluster: &cluster,
        temporal_address: &temporal_address,
        port: ports::choose(arguments.api_port)?,
    };
    control_plane.migrate().await?;
    let temporal_http = local(&format!("http://127.0.0.1:{temporal_http_port}"), None)?;
    let ready = async || temporal::is_ready(&temporal_http).await;
    supervisor.wait_until(temporal::NAME, temporal::START_LIMIT, ready).await?;

    log.say("starting the control plane and its worker");
    supervisor.start(control_plane.api())?;
    supervisor.start(control_plane.worker())?;
    let anonymous = local(&control_plane.url(), None)?;
    let ready = async || is_up(&anonymous).await;
    supervisor.wait_until(control_plane::API, control_plane::START_LIMIT, ready).await?;

    let provision = tenants::ensure(layout, &control_plane, &arguments.tenants).await?;
    start_executors(layout, &programs, &control_plane.url(), &provision, supervisor).await?;
    let mut tenants = BTreeMap::new();
    for (name, tokens) in &provision.tenants {
        tenants.insert(name.clone(), tokens.public()?);
    }
    publish_audit_key(layout)?;
    supervisor.tend();
    let file = DevFile {
        api_url: control_plane.url(),
        console_url: None,
        codex_url: None,
        mcp_url: None,
        temporal_address: temporal_address.clone(),
        database_url: control_plane.database_url(),
        platform_token: provision.platform_token,
        tenants,
        pid: std::process::id(),
        pids: supervisor.pids(),
    };
    file.write(layout.root()).map_err(DevError::file("write", DevFile::path(layout.root())))?;
    Ok(file)
}

async fn start_executors(
    layout: &Layout,
    programs: &Programs,
    api_url: &str,
    provision: &tenants::Provision,
    supervisor: &mut Supervisor,
) -> Result<(), DevError> {
    let since = OffsetDateTime::now_utc();
    for (tenant, tokens) in &provision.tenants {
        let service = executors::service(layout, programs, api_url, tenant, tokens)?;
        supervisor.start(service)?;
    }
    for (tenant, tokens) in &provision.tenants {
        let owner = local(api_url, Some(tokens.get("owner")?))?;
        let ready = async || executors::is_enrolled(&owner, since).await;
        supervisor.wait_until(&executors::name(tenant), executors::START_LIMIT, ready).await?;
    }
    Ok(())
}

async fn is_up(control_plane: &Client) -> bool {
    let request = control_plane.request(Method::GET, "/readyz").timeout(PROBE_LIMIT);
    control_plane.send(request).await.is_ok()
}

fn local(url: &str, token: Option<&str>) -> Result<Client, DevError> {
    let action = format!("be talked to at {url}");
    Client::new(url, token).map_err(|source| DevError::Api { action, source })
}

/// The key for `audit verify`, once the control plane makes one.
fn publish_audit_key(layout: &Layout) -> Result<(), DevError> {
    let from = layout.keys().join("audit.pub");
    if !from.is_file() {
        return Ok(());
    }
    std::fs::copy(&from, layout.root().join("audit.pub"))
        .map(drop)
        .map_err(DevError::file("copy", from))
}

/// Keeps everything running until told to stop.
async fn watch(
    layout: &Layout,
    supervisor: &mut Supervisor,
    mut file: DevFile,
    stop: &mut StopSignals,
) -> Result<()> {
    let mut deaths = signal(SignalKind::child())?;
    loop {
        let due = supervisor.next_restart().unwrap_or_else(|| Instant::now() + CHECK);
        tokio::select! {
            () = stop.recv() => return Ok(()),
            _ = deaths.recv() => {}
            () = sleep_until(due.into()) => {}
            () = sleep(CHECK) => {}
        }
        if supervisor.tend() {
            file.pids = supervisor.pids();
            file.write(layout.root())?;
        }
    }
}

/// Says what runs where and how to try it.
fn announce(
    arguments: &StartArguments,
    layout: &Layout,
    log: &DevLog,
    file: &DevFile,
    begin: Instant,
) -> Result<()> {
    log.say(format_args!("ready after {:.1} s", begin.elapsed().as_secs_f64()));
    let folder = layout.root().display();
    let first = file.tenants.keys().next().map_or("acme", String::as_str);
    let model = match std::env::var_os("OPENAI_API_KEY") {
        Some(_) => "OpenAI's Responses API",
        None => "the offline demo model (no OPENAI_API_KEY)",
    };
    let tenants = file.tenants.keys().cloned().collect::<Vec<_>>().join(", ");
    let summary = format!(
        "\n  API        {}\n  Temporal   {}\n  Model      {model}\n  Tenants    {tenants}\n  \
         Data       {folder}\n  Logs       {folder}/logs\n\n\
         Try it in another terminal:\n\n  \
         export BULKHEAD_DATA_DIR={folder}\n  \
         bulkhead exec --tenant {first} -- echo hello\n  \
         bulkhead run \"Use shell to run 'echo hello world' and tell me the output.\"\n  \
         bulkhead approvals list\n  bulkhead audit list\n",
        file.api_url, file.temporal_address,
    );
    if !arguments.detached {
        console::narrate(summary);
        if arguments.json {
            console::print_json(&describe(layout, file))?;
        }
    }
    Ok(())
}

/// What `--json` prints: no secret, but where they are.
pub(super) fn describe(layout: &Layout, file: &DevFile) -> serde_json::Value {
    json!({
        "state": "ready",
        "data_dir": layout.root(),
        "dev_file": DevFile::path(layout.root()),
        "api_url": file.api_url,
        "tenants": file.tenants.keys().collect::<Vec<_>>(),
        "pid": file.pid,
    })
}

/// The signals that mean "stop".
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl StopSignals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
