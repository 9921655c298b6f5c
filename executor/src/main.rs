//! `bulkhead-executor`: reads its settings, enrols, and works until it is told to stop.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use domain::ids::ExecutorId;
use executor::backoff::Backoff;
use executor::control::ControlPlane;
use executor::data_dir::DataDir;
use executor::docker::{Docker, DockerError, DockerFacts};
use executor::doctor::{HostFacts, assess, promised_tier};
use executor::enrol::enrol;
use executor::executor::{Executor, Parts};
use executor::journal::Journal;
use executor::profile::HostFeatures;
use executor::sandboxes::Site;
use executor::settings::{Cli, HostSettings, Settings, Task, Work};
use executor::spool_folder::SpoolFolder;
use executor::worker;
use executor::workspace::Workspaces;
use protocol::enrolment::{EnrolRequest, Enrolment};
use sealing::Key;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// How soon, and then how often, Docker is looked for while it is away.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LAST_LOOK: Duration = Duration::from_secs(5);
/// How long the worker may take to hand its activities back.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Fails only when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // A sentence; a backtrace would push it out of sight.
        Err(error) => {
            eprintln!("bulkhead-executor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("no async runtime")?;
    let outcome = match cli.task {
        Some(Task::Doctor { json, host }) => runtime.block_on(examine(&host, json)),
        // Read again by itself: settings from the environment alone do not count as given beside
        // a subcommand.
        None => {
            let settings = Work::parse().settings;
            let exporting = traces::start(&settings.traces, "bulkhead-executor", runtime.handle())?;
            let outcome = runtime.block_on(run(settings));
            exporting.stop();
            outcome
        }
    };
    // Commands live in their sandboxes; nothing here has to be waited for.
    runtime.shutdown_background();
    outcome
}

/// `doctor`: fails where the executor would refuse to start.
async fn examine(settings: &HostSettings, json: bool) -> anyhow::Result<()> {
    let facts = facts(&Docker::connect(&settings.docker_host).await?, settings).await?;
    let folder = std::env::temp_dir().join(format!("bulkhead-doctor-{}", std::process::id()));
    // Nobody's commands: the user only matters for files that are made later.
    let workspaces = Workspaces::open(settings.workspace, &folder, 65_534).await;
    let _ = std::fs::remove_dir_all(&folder);
    let runtime = HostFeatures::of(&facts, settings.runtime.as_deref())?.runtime;
    let on_disk = workspaces?.on_disk();
    let report = assess(&facts, &HostFacts::read(), runtime.as_deref(), on_disk);
    let text = if json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
    writeln!(std::io::stdout(), "{}", text.trim_end()).context("cannot print the report")?;
    report.require(settings.min_tier).map_err(Into::into)
}

/// What Docker says of itself, and what a container says of a runtime that promises more.
async fn facts(docker: &Docker, settings: &HostSettings) -> anyhow::Result<DockerFacts> {
    let mut facts = docker.facts().await?;
    let runtime = HostFeatures::of(&facts, settings.runtime.as_deref())?.runtime;
    if promised_tier(runtime.as_deref().unwrap_or(&facts.default_runtime)) > 1 {
        let own = docker.has_own_kernel(runtime.as_deref(), &settings.sandbox_image).await;
        facts.own_kernel = own.context("the runtime's kernel cannot be looked at")?;
    }
    Ok(facts)
}

/// Docker, what it says of itself, and the digest of the default image. Waits for a Docker that is
/// away; what an answer says against this host is an error at once.
async fn wait_for_docker(settings: &HostSettings) -> anyhow::Result<(Docker, DockerFacts, String)> {
    let mut backoff = Backoff::new(FIRST_LOOK, LAST_LOOK);
    let mut told = String::new();
    loop {
        let look = async {
            let docker = Docker::connect(&settings.docker_host).await?;
            let facts = facts(&docker, settings).await?;
            let digest = docker.get_image_digest(&settings.sandbox_image).await?;
            anyhow::Ok((docker, facts, digest))
        };
        let error = match look.await {
            Err(error) if error.downcast_ref().is_some_and(DockerError::is_away) => error,
            found => return found,
        };
        // Logged once per change: an absent Docker must not fill the log.
        let message = format!("{error:#}");
        if message != told {
            tracing::warn!(reason = %message, "cannot start yet: waiting for Docker");
            told = message;
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let stopping = stop_on_signal()?;
    tokio::select! {
        ended = work(settings, stopping.clone()) => ended,
        () = overdue(stopping) => Ok(()),
    }
}

async fn work(settings: Settings, stopping: CancellationToken) -> anyhow::Result<()> {
    let token = settings.token()?;
    let init_program = settings.sandbox_init()?;
    let data = DataDir::open(&settings.data_dir)?;
    let (docker, facts, image_digest) = tokio::select! {
        found = wait_for_docker(&settings.host) => found?,
        () = stopping.cancelled() => return Ok(()),
    };
    let host = HostFeatures::of(&facts, settings.host.runtime.as_deref())?;
    let control = Arc::new(ControlPlane::new(settings.url.clone(), token)?);
    // Before the control plane counts on it. Where workspaces are does not change the tier; that is
    // known only later.
    let report = assess(&facts, &HostFacts::read(), host.runtime.as_deref(), true);
    report.require(settings.host.min_tier)?;
    let request = EnrolRequest {
        executor_id: data.executor_id(),
        version: env!("CARGO_PKG_VERSION").into(),
        host: host_name(),
        image_digest: image_digest.clone(),
        isolation_tier: Some(report.tier),
        capacity: std::thread::available_parallelism()
            .ok()
            .and_then(|count| u32::try_from(count.get()).ok()),
    };
    let enrolment = tokio::select! {
        enrolled = enrol(&control, &request) => enrolled?,
        () = stopping.cancelled() => return Ok(()),
    };
    let executor_id = data.executor_id();
    tracing::info!(executor = %executor_id, tenant = %enrolment.tenant_name, "enrolled");
    let journal = Journal::open(&data.journal())
        .with_context(|| format!("cannot use {}", data.journal().display()))?;
    let kind = settings.host.workspace;
    let workspaces = Workspaces::open(kind, &data.workspaces(), enrolment.sandbox_uid).await?;
    tracing::info!(tier = report.tier, on_disk = workspaces.on_disk(), "the host will do");
    let site = Site {
        docker,
        journal,
        executor_id,
        epoch: enrolment.epoch,
        tenant_id: enrolment.tenant_id,
        uid: enrolment.sandbox_uid,
        run_dir: settings.run_dir.clone(),
        init_program,
        workspaces,
        host,
        default_image: image_digest,
        lifecycle: settings.lifecycle(),
    };
    let (payload_key, grant_key) = keys(&enrolment)?;
    let spool = SpoolFolder::new(data.spool(), settings.spool_limit_bytes());
    let fence = control.fence().clone();
    let output_patience = settings.output_patience();
    let parts = Parts { site, spool, control, output_patience, payload_key, grant_key };
    let executor = Arc::new(Executor::start(parts).await?);
    let client = tokio::select! {
        client = worker::connect(&enrolment, executor_id.to_string(), settings.temporal_api_key)
            => client?,
        () = fence.cancelled() => return Err(fenced(executor_id)),
        () = stopping.cancelled() => return Ok(()),
    };
    tracing::info!(queues = ?enrolment.task_queues, "ready");
    tokio::select! {
        ended = worker::run(client, executor, &enrolment.task_queues, stopping) => ended?,
        () = fence.cancelled() => return Err(fenced(executor_id)),
    }
    tracing::info!("stopped; commands run on");
    Ok(())
}

fn fenced(executor_id: ExecutorId) -> anyhow::Error {
    anyhow::anyhow!(
        "another start of executor {executor_id} has enrolled, so this one ends; commands run on \
         and belong to that one"
    )
}

fn keys(enrolment: &Enrolment) -> anyhow::Result<(Key, [u8; 32])> {
    let payload_key = Key::from_bytes(&enrolment.payload_key.0)
        .context("the control plane sent a payload key that is not 32 bytes long")?;
    let grant_key = enrolment.grant_key.0.as_slice().try_into();
    let grant_key =
        grant_key.context("the control plane sent a grant key that is not 32 bytes long")?;
    Ok((payload_key, grant_key))
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stopping = CancellationToken::new();
    let told = stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stopping)
}

async fn overdue(stopping: CancellationToken) {
    stopping.cancelled().await;
    tokio::time::sleep(STOP_TIMEOUT).await;
    tracing::warn!("stopped without waiting any longer; commands run on");
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}
