//! `serve`: the HTTP API and what runs beside it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use control_plane::app::{App, MAX_AHEAD};
use control_plane::audit_keys::AuditKeys;
use control_plane::calls::Switchboard;
use control_plane::checkpoints::Checkpointer;
use control_plane::config::ServeConfig;
use control_plane::dispatch::Dispatcher;
use control_plane::hub::Hub;
use control_plane::judging::Engines;
use control_plane::keys::Keys;
use control_plane::rates::{RateLimits, Rates};
use control_plane::store::Store;
use control_plane::strangers::Strangers;
use control_plane::streams::Streams;
use control_plane::tenant_keys::TenantKeys;
use control_plane::tokens::Verifier;
use control_plane::upkeep::{Upkeep, keep_indexed};
use control_plane::webhooks::Webhooks;
use control_plane::worker::Authorizer;
use control_plane::{http, reaper};
use tokio::sync::Semaphore;

use super::{refuse_strong_role, strong_role, terminated};

/// Serves until SIGTERM or SIGINT, then lets go in order.
///
/// # Errors
/// When a setting is wrong or the address is taken.
pub(crate) async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    raise_file_limit();
    let store = Store::connect_lazily(&config.database.database_url, 24)
        .context("DATABASE_URL is not a Postgres address")?;
    let keys = Arc::new(Keys::load(&config.database.keys.key_dir)?);
    let AuditKeys { signers, known } = AuditKeys::load(&config.database.keys.key_dir)?;
    let checkpointer = Checkpointer::new(store.clone(), signers, known, config.checkpoint_file());
    refuse_strong_role(&store).await?;
    let advertised = config.advertise_url.unwrap_or_else(|| format!("http://{}", config.listen));
    let stall = Duration::from_secs(config.callers.stream_stall_s);
    let webhooks = Webhooks::new(store.clone(), keys.clone(), config.webhooks_allow_private);
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
    let app = App {
        dispatcher: Arc::new(Dispatcher::new(store.clone())),
        hub: Arc::new(Hub::default()),
        verifier: Arc::new(Verifier::new(keys.clone())),
        tenant_keys,
        engines,
        authorizer: Arc::new(authorizer),
        ahead: Arc::new(Semaphore::new(MAX_AHEAD)),
        checkpointer: Arc::new(checkpointer),
        keys,
        calls: Arc::new(Switchboard::new(store.clone(), advertised)),
        webhooks: Arc::new(webhooks),
        metrics: Arc::default(),
        rates: Arc::new(Rates::new(RateLimits {
            per_token: config.callers.token_requests_per_minute,
            per_tenant: config.callers.tenant_requests_per_minute,
            per_executor: config.callers.executor_requests_per_minute,
        })),
        strangers: Arc::new(Strangers::new(config.callers.anonymous_requests_per_minute)),
        readiness: Arc::default(),
        streams: Arc::new(Streams::new(
            config.callers.streams_per_token,
            config.callers.streams_per_tenant,
        )),
        stall,
        gone_after_s,
        temporal: config.temporal.clone(),
        store: store.clone(),
    };
    if let Err(error) = app.verifier.refresh(&store).await {
        tracing::warn!(%error, "revocations cannot be read yet");
    }
    tokio::spawn(app.keys.clone().keep_fresh());
    tokio::spawn(app.verifier.clone().keep_fresh(store.clone()));
    tokio::spawn(app.verifier.clone().keep_use_log(store.clone()));
    tokio::spawn(app.webhooks.clone().run());
    tokio::spawn(app.rates.clone().keep_shared(store.clone()));
    tokio::spawn(app.calls.clone().listen());
    tokio::spawn(app.checkpointer.clone().run());
    tokio::spawn(reaper::run(store.clone(), app.dispatcher.clone(), app.gone_after_s));
    let (dispatcher, metrics) = (app.dispatcher.clone(), app.metrics.clone());
    tokio::spawn(keep_indexed(store.clone(), metrics.clone()));
    tokio::spawn(Upkeep::new(store.clone(), dispatcher, metrics, &config.upkeep).run());
    tokio::spawn(app.hub.clone().listen(store.clone()));
    tokio::spawn(app.dispatcher.clone().run(config.temporal));
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    tracing::info!(address = %listener.local_addr()?, "API serves");
    let streams = app.streams.clone();
    let stop = async move {
        terminated().await;
        tracing::info!("stopping: streams end, requests under way are finished");
        streams.stop();
    };
    // Slower than `stall`, a reader of events is told with a `gap`; beyond, its connection ends.
    let limits = http::ConnectionLimits {
        write_timeout: stall * 2,
        per_address: config.callers.connections_per_address,
    };
    tokio::select! {
        () = http::serve(listener, http::router(app), limits, stop) => Ok(()),
        error = strong_role(&store) => Err(error),
    }
}

/// A stream is an open file, and the usual soft limit is a thousand.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
