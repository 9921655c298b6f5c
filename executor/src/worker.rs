//! The Temporal side: connects with patience, polls the executor's queues, stops gracefully. Commands
//! survive all of it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use protocol::enrolment::Enrolment;
use temporalio_client::{Client, ClientOptions, Connection, ConnectionOptions, Url};
use temporalio_sdk::runtime::RuntimeOptions;
use temporalio_sdk::{Runtime, Worker, WorkerOptions};
use tokio_util::sync::CancellationToken;

use crate::activities::Tools;
use crate::backoff::Backoff;
use crate::executor::Executor;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The SDK must pass heartbeats on as often as the activities make them.
const HEARTBEAT_THROTTLE: Duration = Duration::from_millis(300);
const GRACE: Duration = Duration::from_secs(2);

/// The worker cannot run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The enrolment names no address.
    #[error("the control plane gave an unusable Temporal address: correct its TEMPORAL_ADDRESS")]
    Address(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client could not be made.
    #[error("the Temporal client could not be set up")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The worker could not be made or stopped by itself.
    #[error("the Temporal worker failed")]
    Worker(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Connects to the Temporal of `enrolment`, for as long as it takes.
///
/// # Errors
/// When trying again is of no use.
pub async fn connect(
    enrolment: &Enrolment,
    identity: String,
    api_key: Option<String>,
) -> Result<Client, WorkerError> {
    let target: Url = enrolment
        .temporal_address
        .parse()
        .map_err(|error| WorkerError::Address(Box::new(error)))?;
    let options = ConnectionOptions::new(target)
        .identity(identity)
        .connect_timeout(CONNECT_TIMEOUT)
        .maybe_api_key(api_key)
        .build();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut told = false;
    let connection = loop {
        match Connection::connect(options.clone()).await {
            Ok(connection) => break connection,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(address = %enrolment.temporal_address, %error,
                        "Temporal does not answer; trying again");
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    };
    let options = ClientOptions::new(&enrolment.temporal_namespace).build();
    Client::new(connection, options).map_err(|error| WorkerError::Client(error.into()))
}

/// Polls all `task_queues` until `stopping` is cancelled, then ends within the grace.
///
/// The future cannot leave its thread: the SDK's workers are not `Send`.
///
/// # Errors
/// When a worker cannot be made, or stops by itself.
pub async fn run(
    client: Client,
    executor: Arc<Executor>,
    task_queues: &[String],
    stopping: CancellationToken,
) -> Result<(), WorkerError> {
    let runtime = RuntimeOptions::builder().build().map_err(|error| failed(error.into()))?;
    let runtime = Runtime::from_current_tokio(runtime).map_err(|error| failed(error.into()))?;
    let tools = || Tools::new(Arc::clone(&executor), stopping.clone());
    let mut workers = task_queues
        .iter()
        .map(|queue| make_worker(&runtime, client.clone(), tools(), queue))
        .collect::<Result<Vec<_>, _>>()?;
    let stops: Vec<_> = workers.iter().map(Worker::shutdown_handle).collect();
    tokio::spawn(async move {
        stopping.cancelled().await;
        stops.into_iter().for_each(|stop| stop());
    });
    let runs = workers
        .iter_mut()
        .map(async |worker| worker.run().await.map_err(|error| failed(error.into())));
    try_join_all(runs).await.map(drop)
}

fn make_worker(
    runtime: &Runtime,
    client: Client,
    tools: Tools,
    task_queue: &str,
) -> Result<Worker, WorkerError> {
    let options = WorkerOptions::new(task_queue)
        .max_heartbeat_throttle_interval(HEARTBEAT_THROTTLE)
        .default_heartbeat_throttle_interval(HEARTBEAT_THROTTLE)
        .graceful_shutdown_period(GRACE)
        .register_activities(tools)
        .build();
    Worker::new(runtime, client, options).map_err(|error| failed(error.into()))
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> WorkerError {
    WorkerError::Worker(error)
}
