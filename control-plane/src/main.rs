//! `bulkhead-control-plane`: `serve`, `worker`, `migrate`, `doctor`, and the platform's first token.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use control_plane::app::{App, MAX_AHEAD};
use control_plane::audit_keys::AuditKeys;
use control_plane::calls::Switchboard;
use control_plane::checkpoints::Checkpointer;
use control_plane::config::{DatabaseConfig, ServeConfig, WorkerConfig};
use control_plane::dispatch::{self, Dispatcher};
use control_plane::hub::Hub;
use control_plane::judging::Engines;
use control_plane::keys::Keys;
use control_plane::model::ModelClient;
use control_plane::store::{AuditEntry, NewToken, Store};
use control_plane::tenant_keys::TenantKeys;
use control_plane::tokens::{self, Verifier};
use control_plane::worker::{self, Activities, Authorizer};
use control_plane::{demo_model, http, reaper};
use domain::access::Role;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "bulkhead-control-plane", version, about = "Bulkhead's control plane")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the HTTP API
    Serve(ServeConfig),
    /// Run session workflows and their control activities
    Worker(WorkerConfig),
    /// Bring the database up to date (as its owner) and make missing keys
    Migrate(DatabaseConfig),
    /// Check what the control plane needs, and say what is missing
    Doctor(ServeConfig),
    /// Make a platform token and print it, once
    PlatformToken(DatabaseConfig),
    /// Make a new key for audit checkpoints; the old one signs beside it until its file is removed
    RotateAuditKey(DatabaseConfig),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    // TLS for the model provider; the only provider that is linked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bulkhead-control-plane: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = match Arguments::parse().command {
        Command::Serve(config) => runtime.block_on(serve(config)),
        Command::Worker(config) => runtime.block_on(work(config)),
        Command::Migrate(config) => runtime.block_on(migrate(config)),
        Command::Doctor(config) => runtime.block_on(doctor(config)),
        Command::PlatformToken(config) => runtime.block_on(platform_token(config)),
        Command::RotateAuditKey(config) => AuditKeys::rotate(&config.key_dir).map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bulkhead-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    let store = Store::connect_lazily(&config.database.database_url, 24)
        .context("DATABASE_URL is not a Postgres address")?;
    let keys = Arc::new(Keys::load(&config.database.key_dir)?);
    let AuditKeys { signers, known } = AuditKeys::load(&config.database.key_dir)?;
    let checkpointer = Checkpointer::new(store.clone(), signers, known, config.checkpoint_file());
    refuse_strong_role(&store).await?;
    let tenant_keys = Arc::new(TenantKeys::new(store.clone(), keys.clone()));
    let gone_after_s = config.patience.executor_gone_after_s;
    let engines = Arc::new(Engines::default());
    let authorizer = Authorizer::new(
        store.clone(),
        keys.clone(),
        Arc::clone(&tenant_keys),
        Arc::clone(&engines),
        gone_after_s,
    );
    let advertised = config.advertise_url.unwrap_or_else(|| format!("http://{}", config.listen));
    let app = App {
        dispatcher: Arc::new(Dispatcher::new(store.clone())),
        hub: Arc::new(Hub::default()),
        engines,
        verifier: Arc::new(Verifier::new(&keys.token)),
        tenant_keys,
        authorizer: Arc::new(authorizer),
        ahead: Arc::new(Semaphore::new(MAX_AHEAD)),
        keys,
        checkpointer: Arc::new(checkpointer),
        calls: Arc::new(Switchboard::new(store.clone(), advertised)),
        gone_after_s,
        temporal: config.temporal.clone(),
        store: store.clone(),
    };
    if let Err(error) = app.verifier.refresh(&store).await {
        tracing::warn!(%error, "revocations cannot be read yet");
    }
    tokio::spawn(app.verifier.clone().keep_fresh(store.clone()));
    tokio::spawn(app.calls.clone().listen());
    tokio::spawn(app.checkpointer.clone().run());
    tokio::spawn(reaper::run(store.clone(), app.dispatcher.clone(), app.gone_after_s));
    tokio::spawn(app.hub.clone().listen(store));
    tokio::spawn(app.dispatcher.clone().run(config.temporal));
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    tracing::info!(address = %listener.local_addr()?, "API serves");
    http::serve(listener, http::router(app), terminated()).await;
    Ok(())
}

async fn work(config: WorkerConfig) -> anyhow::Result<()> {
    let store = Store::connect_lazily(&config.database.database_url, 24)
        .context("DATABASE_URL is not a Postgres address")?;
    let keys = Arc::new(Keys::load(&config.database.key_dir)?);
    refuse_strong_role(&store).await?;
    let key = config.openai_api_key.filter(|key| !key.is_empty());
    let model = match key {
        Some(key) => ModelClient::new(&config.openai_base_url, &key, &config.model)?,
        None => {
            let address = demo_model::start().await.context("the demo model cannot listen")?;
            tracing::info!("OPENAI_API_KEY is not set: the offline demo model answers");
            ModelClient::new(&format!("http://{address}/v1"), "none", "bulkhead-demo")?
        }
    };
    let mut said = false;
    let client = loop {
        match dispatch::connect(&config.temporal).await {
            Ok(client) => break client,
            Err(error) if !said => {
                said = true;
                let address = &config.temporal.temporal_address;
                tracing::warn!(%error, address, "Temporal does not answer; will try again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
            () = terminated() => return Ok(()),
        }
    };
    worker::run(
        client,
        Activities::new(store, keys, model, config.patience.executor_gone_after_s),
        terminated(),
    )
    .await
}

async fn migrate(config: DatabaseConfig) -> anyhow::Result<()> {
    Keys::create_missing(&config.key_dir)?;
    AuditKeys::create_missing(&config.key_dir)?;
    Store::migrate(&config.database_url).await.context("cannot bring the database up to date")
}

async fn doctor(config: ServeConfig) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    if let Err(error) = Keys::load(&config.database.key_dir) {
        problems.push(format!("keys: {error}"));
    }
    let store = Store::connect_lazily(&config.database.database_url, 1)?;
    match store.excess_rights().await {
        Ok(rights) if rights.is_empty() => eprintln!("ok: Postgres answers"),
        Ok(rights) => problems.push(too_strong(&rights)),
        Err(error) => problems.push(format!("Postgres: {error}; start it or check DATABASE_URL")),
    }
    match dispatch::connect(&config.temporal).await {
        Ok(_) => eprintln!("ok: Temporal answers"),
        Err(error) => {
            problems.push(format!("Temporal: {error}; start it or check TEMPORAL_ADDRESS"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{}", problems.join("\n"))
}

async fn platform_token(config: DatabaseConfig) -> anyhow::Result<()> {
    let keys = Keys::load(&config.key_dir)?;
    let store = Store::connect_lazily(&config.database_url, 1)?;
    let lifetime = time::Duration::days(365);
    let now = time::OffsetDateTime::now_utc();
    let issued = tokens::issue(&keys.token, Role::Platform, None, "platform", lifetime, now)?;
    let mut scope = store.platform().await?;
    let stored = NewToken {
        id: issued.id,
        jti_hash: &issued.jti_hash,
        name: "platform",
        role: Role::Platform,
        created_by: None,
        expires_at: issued.expires_at,
    };
    scope.insert_token(&stored).await?;
    let entry = AuditEntry {
        detail: serde_json::json!({ "name": "platform", "role": "platform" }),
        ..AuditEntry::by_part("operator", "token.create", issued.id)
    };
    scope.append_audit(entry);
    scope.commit().await?;
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{}", issued.secret)?;
    Ok(())
}

/// Row-level security means nothing to a role that is above it. An unreachable database is no
/// reason not to start; requests are refused until it answers.
async fn refuse_strong_role(store: &Store) -> anyhow::Result<()> {
    match store.excess_rights().await {
        Ok(rights) if rights.is_empty() => Ok(()),
        Ok(rights) => bail!(too_strong(&rights)),
        Err(error) => {
            tracing::warn!(%error, "Postgres does not answer yet");
            Ok(())
        }
    }
}

fn too_strong(rights: &[String]) -> String {
    format!(
        "the database role is too strong ({}): connect as bulkhead_app, which is neither owner \
         nor superuser",
        rights.join(", ")
    )
}

async fn terminated() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
