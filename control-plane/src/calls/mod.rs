//! Calls to executors while a client waits: files, input, signals. See [`protocol::calls`].
//!
//! Executors hold a line open to one replica; a call for an executor whose line is elsewhere is
//! announced through the database, and the executor then comes to the replica that holds the call.
//! Nothing is kept: a call lives as long as its client waits.

mod lines;
mod upload;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use domain::ids::{CallId, ExecutorId, TenantId};
use protocol::calls::{Call, CallReply, Ring};
use tokio::time::{Instant, sleep, sleep_until};

use crate::ids;
use crate::store::{Life, Store, StoreError};

pub use lines::{Line, Lines};
use upload::Broken;
pub use waiting::{Bytes, Full, Pieces, Waiting, WaitingCall};

/// How long an executor may take to fetch a call before it counts as away.
const PICK_UP: Duration = Duration::from_secs(5);
/// Calls that one replica holds at once.
const MAX_CALLS: usize = 1024;
/// How often it is looked whether the executor that fetched a call is still there.
const LOOK: Duration = Duration::from_secs(3);
/// How many looks in a row may find it silent.
const MAX_SILENT: u32 = 5;
/// How long an executor may take to answer when it reads no more of a body.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What came back: the reply, and the bytes after it, if any.
pub struct Answer {
    /// The reply.
    pub reply: CallReply,
    /// What follows it.
    pub rest: Pieces,
}

/// A call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The database failed.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The executor did not come for it.
    #[error("the session's executor does not answer; see that bulkhead-executor runs")]
    Away,
    /// It came, and then nothing did, or something broken.
    #[error("the session's executor did not finish the call; nothing is known of it")]
    Broken,
    /// The client's body broke off before its end.
    #[error("the request body broke off, paused for too long, or did not end in time")]
    Body,
    /// Too many calls wait.
    #[error("too many calls wait for executors; try again")]
    Busy,
    /// Too many of them are the tenant's, or the token's.
    #[error("the {0} has as many calls about files or input waiting as it may: let one end")]
    Share(&'static str),
}

/// See the module.
pub struct Switchboard {
    store: Store,
    url: String,
    lines: Lines,
    waiting: Arc<Waiting>,
}

impl Switchboard {
    /// A switchboard of the replica that executors reach at `url`.
    pub fn new(store: Store, url: String) -> Self {
        Self { store, url, lines: Lines::default(), waiting: Arc::new(Waiting::new(MAX_CALLS)) }
    }

    /// The lines of executors that are connected here.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// The calls that wait here.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Makes a call and waits for its answer. `body` is fetched by the executor if it wants it.
    ///
    /// # Errors
    /// See [`CallError`]; then it may or may not have been done.
    pub async fn call(
        &self,
        tenant_id: TenantId,
        executor_id: ExecutorId,
        call: Call,
        body: Option<Pieces>,
    ) -> Result<Answer, CallError> {
        let timeout = Duration::from_millis(call.timeout_ms);
        let call_id: CallId = ids::new();
        // Dropped with this future: a client that leaves takes its call away.
        let (body, upload) = upload::watched(body);
        let entry = self.waiting.enter(call_id, tenant_id, call, body);
        let mut entry = entry.map_err(|full| match full {
            Full::Places => CallError::Busy,
            Full::Tenant => CallError::Share("tenant"),
            Full::Token => CallError::Share("token"),
        })?;
        let ring = Ring { call_id, url: self.url.clone() };
        if !self.lines.ring(tenant_id, executor_id, &ring) {
            self.store.announce_ring(tenant_id, executor_id, &ring).await?;
        }
        tokio::time::timeout(PICK_UP, entry.picked_up()).await.map_err(|_| CallError::Away)?;
        let picked_up = Instant::now();
        let deadline = picked_up + timeout;
        tokio::select! {
            // Who answers before the body's end has not read on.
            biased;
            answer = entry.answer() => return answer.ok_or(CallError::Broken),
            broken = upload.end() => match broken {
                Broken::Client => return Err(CallError::Body),
                // It has answered, is about to, or died.
                Broken::Executor => {}
            },
            () = self.gone(tenant_id, executor_id, picked_up) => return Err(CallError::Broken),
            () = sleep_until(deadline) => return Err(CallError::Broken),
        }
        let soon = deadline.min(Instant::now() + LAST_WORDS);
        match tokio::time::timeout_at(soon, entry.answer()).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) | Err(_) => Err(CallError::Broken),
        }
    }

    /// Waits until an executor is not the one any more that was there at a time: it was started again,
    /// or is silent for longer than one late word of it explains. A database that is away tells
    /// nothing.
    async fn gone(&self, tenant_id: TenantId, executor_id: ExecutorId, since: Instant) {
        let mut silent = 0;
        while silent < MAX_SILENT {
            sleep(LOOK).await;
            let seconds = since.elapsed().as_secs_f64();
            match self.store.life_of_executor(tenant_id, executor_id, seconds).await {
                Ok(Life::Over) => return,
                Ok(Life::Silent) => silent += 1,
                Ok(Life::Same) | Err(_) => silent = 0,
            }
        }
    }

    /// Passes rings on that were announced at other replicas, for as long as the process lives.
    pub async fn listen(self: Arc<Self>) {
        loop {
            match self.store.listen_for_rings().await {
                Ok(mut rings) => loop {
                    match rings.next().await {
                        Ok(Some((tenant_id, executor_id, ring))) => {
                            self.lines.ring(tenant_id, executor_id, &ring);
                        }
                        Ok(None) => {}
                        Err(error) => {
                            tracing::warn!(%error, "lost the listener for calls");
                            break;
                        }
                    }
                },
                Err(error) => tracing::warn!(%error, "cannot listen for calls; will try again"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
