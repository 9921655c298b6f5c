//! Calls of the control plane while a client waits: hears that there is one, fetches it from the
//! replica that holds it, does it, answers. Keeps nothing of it: whoever wants more asks again.

mod feed;
mod files;
mod helper;
mod live;
mod order;
mod replica;
mod ring;
mod shares;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::ids::CallId;
use protocol::calls::{Call, CallKind, CallReply, Ring};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::backoff::Backoff;
use crate::control::{ControlError, ControlPlane};
use crate::journal::JournalError;
use crate::requests::Requests;
use crate::runs::Runs;
use crate::sandboxes::Sandboxes;
pub(crate) use order::Orders;
use replica::Replica;
use ring::{Rings, RingsError};
pub(crate) use shares::Shares;

/// Calls that are worked on at once.
const MAX_CALLS: usize = 64;
/// How long a replica may take to say what the call is.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// No client waits longer.
const MAX_CALL: Duration = Duration::from_secs(630);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What calls are answered with.
pub(crate) struct Desk {
    pub(crate) control: Arc<ControlPlane>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) sandboxes: Arc<Sandboxes>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) orders: Orders,
    pub(crate) shares: Shares,
    pub(crate) uid: u32,
}

/// A call ended without an answer.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("the replica could not be talked to")]
    Control(#[from] ControlError),
    #[error("the client's body broke off")]
    BodyBroken,
    #[error("nobody takes the answer any more")]
    AnswerBroken,
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    #[error("the work failed after the answer had begun")]
    Aborted,
}

impl CallError {
    /// Whether what was asked for was certainly not done.
    fn changed_nothing(&self) -> bool {
        match self {
            Self::Aborted | Self::Journal(_) => true,
            // The control plane knows of its client, and of itself.
            Self::BodyBroken | Self::AnswerBroken | Self::Control(_) => false,
        }
    }
}

/// Answers calls until a successor of this executor does.
pub(crate) async fn answer_forever(desk: Desk) {
    let fence = desk.control.fence().clone();
    fence.run_until_cancelled(listen(Arc::new(desk))).await;
}

async fn listen(desk: Arc<Desk>) {
    let mut office = Office::new(desk);
    let mut backoff = Backoff::new(FIRST_WAIT, LAST_WAIT);
    let mut told = String::new();
    loop {
        let error = match Rings::open(&office.desk.control).await {
            Ok(rings) => {
                tracing::debug!("listening for calls");
                office.attend(rings, &mut backoff).await
            }
            Err(error) => error,
        };
        // Logged once per change: an absent control plane must not fill the log.
        let message = error.to_string();
        if message != told {
            tracing::warn!(reason = %message, "not listening for calls; trying again");
            told = message;
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// The calls that are being worked on. Dropping it ends them.
struct Office {
    desk: Arc<Desk>,
    calls: JoinSet<()>,
    refusals: JoinSet<()>,
    /// A ring that comes twice must not be answered twice.
    underway: Arc<Mutex<HashSet<CallId>>>,
}

impl Office {
    fn new(desk: Arc<Desk>) -> Self {
        let (calls, refusals) = (JoinSet::new(), JoinSet::new());
        Self { desk, calls, refusals, underway: Arc::default() }
    }

    /// Takes rings until they end.
    async fn attend(&mut self, mut rings: Rings, backoff: &mut Backoff) -> RingsError {
        loop {
            tokio::select! {
                ring = rings.next() => match ring {
                    Ok(ring) => {
                        backoff.reset();
                        self.take(ring);
                    }
                    Err(error) => return error,
                },
                Some(_) = self.calls.join_next() => {}
                Some(_) = self.refusals.join_next() => {}
            }
        }
    }

    fn take(&mut self, ring: Ring) {
        let Some(entry) = Entry::make(&self.underway, ring.call_id) else { return };
        let desk = Arc::clone(&self.desk);
        if self.calls.len() < MAX_CALLS {
            self.calls.spawn(async move {
                let _entry = entry;
                answer(&desk, &ring).await;
            });
        } else if self.refusals.len() < MAX_CALLS {
            self.refusals.spawn(async move {
                let _entry = entry;
                refuse(&desk, &ring).await;
            });
        }
    }
}

/// A call's place in the list, until it is dropped.
struct Entry {
    call_id: CallId,
    list: Arc<Mutex<HashSet<CallId>>>,
}

impl Entry {
    fn make(list: &Arc<Mutex<HashSet<CallId>>>, call_id: CallId) -> Option<Self> {
        let new = list.lock().unwrap_or_else(PoisonError::into_inner).insert(call_id);
        new.then(|| Self { call_id, list: Arc::clone(list) })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.call_id);
    }
}

async fn answer(desk: &Desk, ring: &Ring) {
    let call = ring.call_id;
    let Some(replica) = Replica::of(&desk.control, ring) else {
        tracing::warn!(%call, "a call at an address that the token must not go to");
        return;
    };
    let fetched = match timeout(FETCH_TIMEOUT, replica.get_call()).await {
        Ok(Ok(fetched)) => fetched,
        Ok(Err(error)) => return tracing::debug!(%call, %error, "call not fetched"),
        Err(_) => return tracing::debug!(%call, "call not fetched in time"),
    };
    let limit = Duration::from_millis(fetched.timeout_ms).min(MAX_CALL);
    match timeout(limit, perform(desk, &replica, fetched, limit)).await {
        Ok(Ok(())) => {}
        Ok(Err(failed)) => {
            tracing::debug!(%call, error = &failed as &dyn std::error::Error,
                "call ended without an answer");
            if failed.changed_nothing() {
                // Where an answer has begun, this one comes too late and is not taken.
                let sorry = "the work broke off, and nothing was changed: try again";
                let sorry = CallReply::Unavailable(sorry.into());
                let _ = timeout(FETCH_TIMEOUT, replica.reply(&sorry)).await;
            }
        }
        Err(_) => tracing::debug!(%call, "nobody waits for the call any more"),
    }
}

async fn perform(
    desk: &Desk,
    replica: &Replica,
    call: Call,
    limit: Duration,
) -> Result<(), CallError> {
    // Who has less time than the client can still say how far it came.
    let until = Instant::now() + limit - limit / 8;
    let session_id = call.session_id;
    let _share = match desk.shares.take(&call) {
        Ok(share) => share,
        Err(why) => return Ok(replica.reply(&CallReply::Busy(why)).await?),
    };
    let reply = match &call.what {
        CallKind::Files(request) => {
            return files::work(desk, replica, &call, request, limit).await;
        }
        CallKind::Stdin { exec_id, offset, close } => {
            match desk.runs.find_line(session_id, *exec_id) {
                Some(line) => live::bring_input(&line, replica, *offset, *close, until).await?,
                None => CallReply::NotRunning,
            }
        }
        CallKind::Signal { exec_id, signal } => {
            live::send_signal(desk.runs.find_line(session_id, *exec_id), *signal).await
        }
        CallKind::Resize { exec_id, size } => {
            live::resize(desk.runs.find_line(session_id, *exec_id), *size).await
        }
        CallKind::Cancel { exec_id } => match desk.runs.find_ticket(session_id, *exec_id) {
            Some(ticket) => {
                ticket.cancel();
                CallReply::Done
            }
            // Its order may still be on the way.
            None => match desk.runs.call_off_unknown(session_id, *exec_id).await {
                Ok(()) => CallReply::NotRunning,
                Err(error) => return Err(error.into()),
            },
        },
        CallKind::Run { request } => desk.orders.begin(&desk.requests, request),
    };
    Ok(replica.reply(&reply).await?)
}

async fn refuse(desk: &Desk, ring: &Ring) {
    let Some(replica) = Replica::of(&desk.control, ring) else { return };
    let busy = CallReply::Unavailable("the executor is busy: try again in a moment".into());
    if let Ok(Err(error)) = timeout(FETCH_TIMEOUT, replica.reply(&busy)).await {
        tracing::debug!(call = %ring.call_id, %error, "refusal not delivered");
    }
}
