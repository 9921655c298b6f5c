//! Hands messages to session workflows. The only client of Temporal in `serve`.
//!
//! A message that was promised in the outbox is sent at once; if that fails, or the process dies
//! before, the sweep sends it later. Sending twice does no harm.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use protocol::session::{SESSIONS_QUEUE, SessionInput, workflow_id};
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, WorkflowSignalOptions,
    WorkflowStartOptions,
};
use temporalio_common::search_attributes::{SearchAttributeKey, SearchAttributes};
use workflow::SessionWorkflow;

use crate::config::TemporalConfig;
use crate::store::{Message, Outgoing, Store};

/// Names the tenant of each workflow, for operators.
const TENANT: SearchAttributeKey<String> = SearchAttributeKey::keyword("TenantId");
/// How long one message may take before Temporal counts as gone.
const RPC_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Age in seconds at which a promised message is sent by the sweep.
const OVERDUE_S: f64 = 3.0;

/// Temporal did not take a message.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// There is no connection.
    #[error("Temporal does not answer")]
    Unavailable,
    /// It refused, or took too long.
    #[error("Temporal did not take the message: {0}")]
    Refused(String),
}

/// Connects to Temporal.
///
/// # Errors
/// When the address is malformed or nothing answers there in time.
pub async fn connect(config: &TemporalConfig) -> Result<Client, String> {
    let url: temporalio_client::Url =
        config.temporal_address.parse().map_err(|_| "the address is not a URL".to_owned())?;
    let options = ConnectionOptions::new(url)
        .identity(format!("bulkhead-control-plane@{}", std::process::id()))
        .maybe_api_key(config.temporal_api_key.clone())
        .build();
    let connection = tokio::time::timeout(CONNECT_TIMEOUT, Connection::connect(options))
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let options = ClientOptions::new(config.temporal_namespace.as_str()).build();
    Client::new(connection, options).map_err(|error| error.to_string())
}

/// See the module.
pub struct Dispatcher {
    store: Store,
    client: RwLock<Option<Client>>,
    /// Whether Temporal took the last message.
    answered: AtomicBool,
}

impl Dispatcher {
    /// A dispatcher without a connection.
    pub fn new(store: Store) -> Self {
        Self { store, client: RwLock::new(None), answered: AtomicBool::new(false) }
    }

    /// Connects, however long it takes, and then sends what is overdue for as long as the process
    /// lives.
    pub async fn run(self: Arc<Self>, config: TemporalConfig) {
        let mut said = false;
        loop {
            match connect(&config).await {
                Ok(client) => {
                    *self.client.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
                        Some(client);
                    break;
                }
                Err(error) if !said => {
                    said = true;
                    tracing::warn!(%error, address = %config.temporal_address,
                        "Temporal does not answer; will try again");
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.sweep().await;
        }
    }

    async fn sweep(&self) {
        let Ok(overdue) = self.store.list_overdue(OVERDUE_S).await else { return };
        for outgoing in overdue {
            if self.is_moot(&outgoing).await {
                let _ = self.store.delete_outgoing(outgoing.id).await;
                continue;
            }
            match self.send(&outgoing).await {
                Ok(()) => {}
                // Nobody's message would arrive now.
                Err(DispatchError::Unavailable) => return,
                // Only this one is refused; it must not hold up the others.
                Err(error) => {
                    let session_id = outgoing.session_id;
                    tracing::warn!(%error, %session_id, "message stays in the outbox");
                }
            }
        }
    }

    /// Whether an interrupt comes too late: it must not hit the turn after the one it was for.
    async fn is_moot(&self, outgoing: &Outgoing) -> bool {
        let Message::Interrupt(turn_id) = outgoing.message else { return false };
        let Ok(mut scope) = self.store.tenant(outgoing.tenant_id).await else { return false };
        scope.get_turn(turn_id).await.is_ok_and(|turn| turn.is_over())
    }

    /// Sends a promised message now.
    ///
    /// # Errors
    /// When Temporal did not take it; it stays in the outbox.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<(), DispatchError> {
        let sent = self.try_send(outgoing).await;
        self.answered.store(sent.is_ok(), Ordering::Relaxed);
        sent
    }

    /// Whether Temporal took the last message, so that the next one need not be waited for.
    pub fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    async fn try_send(&self, outgoing: &Outgoing) -> Result<(), DispatchError> {
        let client = self
            .client
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
            .ok_or(DispatchError::Unavailable)?;
        tokio::time::timeout(RPC_TIMEOUT, signal(&client, outgoing))
            .await
            .map_err(|_| DispatchError::Unavailable)??;
        // Off the caller's path: a message that stays is only sent again.
        let (store, id) = (self.store.clone(), outgoing.id);
        tokio::spawn(async move { store.delete_outgoing(id).await });
        Ok(())
    }

    /// Whether there is a connection to Temporal and the server behind it answers.
    pub async fn is_ready(&self) -> bool {
        let client = self.client.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let Some(client) = client else { return false };
        let count = client.count_workflows("WorkflowType = 'SessionWorkflow'", Default::default());
        matches!(tokio::time::timeout(Duration::from_secs(2), count).await, Ok(Ok(_)))
    }
}

async fn signal(client: &Client, outgoing: &Outgoing) -> Result<(), DispatchError> {
    let id = workflow_id(outgoing.session_id);
    let input = SessionInput {
        tenant_id: outgoing.tenant_id,
        session_id: outgoing.session_id,
        carried: Vec::new(),
        task_queue: None,
        events: Default::default(),
    };
    let options = || {
        WorkflowStartOptions::new(SESSIONS_QUEUE, id.as_str())
            .search_attributes(SearchAttributes::new([
                TENANT.value_set(outgoing.tenant_id.to_string())
            ]))
            .build()
    };
    // Work starts the workflow if there is none. Hints only go to one that runs: where there is
    // none, nothing waits for them.
    macro_rules! start_with {
        ($signal:path, $value:expr) => {
            client
                .signal_with_start_workflow(SessionWorkflow::run, input, $signal, $value, options())
                .await
                .map(drop)
                .map_err(|error| DispatchError::Refused(error.to_string()))
        };
    }
    macro_rules! hint {
        ($signal:path, $value:expr) => {
            match client
                .get_workflow_handle::<SessionWorkflow>(id.as_str())
                .signal($signal, $value, WorkflowSignalOptions::default())
                .await
            {
                Err(error) if !is_gone(&error) => Err(DispatchError::Refused(error.to_string())),
                _ => Ok(()),
            }
        };
    }
    match outgoing.message {
        Message::Turn(turn_id) => start_with!(SessionWorkflow::receive_user_turn, turn_id),
        Message::Exec(exec_id) => start_with!(SessionWorkflow::receive_exec, exec_id),
        Message::Shutdown => start_with!(SessionWorkflow::request_shutdown, ()),
        Message::Approval(approval) => hint!(SessionWorkflow::receive_approval, approval),
        Message::CancelExec(exec_id) => hint!(SessionWorkflow::cancel_exec, exec_id),
        Message::Interrupt(_) => hint!(SessionWorkflow::interrupt, ()),
    }
}

fn is_gone(error: &temporalio_client::errors::WorkflowInteractionError) -> bool {
    matches!(error, temporalio_client::errors::WorkflowInteractionError::NotFound(_))
}
