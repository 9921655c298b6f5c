//! The worker: runs session workflows and the control activities they call.

mod activities;
mod ahead;
mod answering;
mod authorize;
mod case;
mod deciding;
mod find_sandbox;
mod model_call;
mod order;
mod record;

use std::sync::Arc;
use std::time::Duration;

use protocol::session::SESSIONS_QUEUE;
use temporalio_client::Client;
use temporalio_sdk::activities::ActivityError;
use temporalio_sdk::{ApplicationFailure, Runtime, Worker, WorkerOptions};
use workflow::SessionWorkflow;

pub use authorize::Authorizer;
pub(crate) use authorize::Place;

use crate::hub::Hub;
use crate::judging::Engines;
use crate::keys::Keys;
use crate::model::ModelClient;
use crate::outcome::OutcomeError;
use crate::store::{Store, StoreError};
use crate::tenant_keys::TenantKeys;

/// What the activities work with.
pub struct Activities {
    store: Store,
    tenant_keys: Arc<TenantKeys>,
    authorizer: Authorizer,
    hub: Arc<Hub>,
    model: ModelClient,
}

impl Activities {
    /// Activities over this store, which they listen to from now on.
    pub fn new(store: Store, keys: Arc<Keys>, model: ModelClient, gone_after_s: f64) -> Self {
        let tenant_keys = Arc::new(TenantKeys::new(store.clone(), keys.clone()));
        let engines = Arc::new(Engines::default());
        let authorizer =
            Authorizer::new(store.clone(), keys, Arc::clone(&tenant_keys), engines, gone_after_s);
        let hub = Arc::new(Hub::default());
        tokio::spawn(Arc::clone(&hub).listen(store.clone()));
        Self { store, tenant_keys, authorizer, hub, model }
    }
}

/// Why an activity failed. Every one of these is worth another attempt; what is not, is a result.
#[derive(Debug, thiserror::Error)]
pub enum ActivityFailure {
    /// The database failed.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// A sealed value could not be made or opened.
    #[error("sealing: {0}")]
    Seal(#[from] sealing::SealError),
    /// An exec's end could not be written down.
    #[error("{0}")]
    Outcome(#[from] OutcomeError),
    /// A grant could not be signed.
    #[error("grant cannot be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
    /// The model did not answer, or broke off.
    #[error("model: {0}")]
    Model(#[from] crate::model::ModelError),
    /// A state machine refused. A bug, or a forged message.
    #[error("{0}")]
    Illegal(#[from] domain::IllegalTransition),
}

fn retry(failure: ActivityFailure) -> ActivityError {
    tracing::warn!(%failure, "activity attempt failed");
    ActivityError::application(ApplicationFailure::from(anyhow::Error::new(failure)))
}

/// Runs the worker until `stop` resolves.
///
/// # Errors
/// When the worker cannot be set up or fails.
pub async fn run(
    client: Client,
    activities: Activities,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let options = WorkerOptions::new(SESSIONS_QUEUE)
        .register_workflow::<SessionWorkflow>()?
        .register_activities(activities)
        .max_heartbeat_throttle_interval(Duration::from_millis(500))
        .default_heartbeat_throttle_interval(Duration::from_millis(500))
        .graceful_shutdown_period(Duration::from_secs(2))
        .build();
    let runtime = Runtime::from_current_tokio(Default::default())?;
    let mut worker = Worker::new(&runtime, client, options)?;
    let shutdown = worker.shutdown_handle();
    tokio::spawn(async move {
        stop.await;
        shutdown();
    });
    tracing::info!(queue = SESSIONS_QUEUE, "worker runs");
    worker.run().await?;
    Ok(())
}
