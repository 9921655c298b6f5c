//! Calls that wait at this replica: fetched by their executor, answered once, gone with their
//! client.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use domain::ids::{CallId, TenantId};
use futures::Stream;
use protocol::calls::Call;
use tokio::sync::oneshot;

use super::Answer;

pub use axum::body::Bytes;

/// Bytes as they come. An error means that the rest will never come.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

struct Entry {
    tenant_id: TenantId,
    call: Call,
    body: Option<Pieces>,
    picked_up: Option<oneshot::Sender<()>>,
    answer: Option<oneshot::Sender<Answer>>,
}

type Entries = Arc<Mutex<HashMap<CallId, Entry>>>;

/// See the module.
pub struct Waiting {
    entries: Entries,
    limit: usize,
}

/// A call that its client waits for. Dropping it takes the call away.
pub struct WaitingCall {
    call_id: CallId,
    entries: Entries,
    picked_up: oneshot::Receiver<()>,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting {
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: Entries::default(), limit }
    }

    /// Adds a call; `None` when there are too many.
    pub(super) fn enter(
        &self,
        call_id: CallId,
        tenant_id: TenantId,
        call: Call,
        body: Option<Pieces>,
    ) -> Option<WaitingCall> {
        let (tell_picked_up, picked_up) = oneshot::channel();
        let (tell_answer, answer) = oneshot::channel();
        let mut entries = lock(&self.entries);
        if entries.len() >= self.limit {
            return None;
        }
        let (picked, told) = (Some(tell_picked_up), Some(tell_answer));
        entries.insert(call_id, Entry { tenant_id, call, body, picked_up: picked, answer: told });
        Some(WaitingCall { call_id, entries: Arc::clone(&self.entries), picked_up, answer })
    }

    /// What a call wants, for an executor of its tenant.
    pub fn fetch(&self, call_id: CallId, tenant_id: TenantId) -> Option<Call> {
        let mut entries = lock(&self.entries);
        let entry = entries.get_mut(&call_id).filter(|entry| entry.tenant_id == tenant_id)?;
        if let Some(picked_up) = entry.picked_up.take() {
            let _ = picked_up.send(());
        }
        Some(entry.call.clone())
    }

    /// A call's body, once.
    pub fn take_body(&self, call_id: CallId, tenant_id: TenantId) -> Option<Pieces> {
        let mut entries = lock(&self.entries);
        entries.get_mut(&call_id).filter(|entry| entry.tenant_id == tenant_id)?.body.take()
    }

    /// Takes the place of the one who answers, once.
    pub fn take_answer(
        &self,
        call_id: CallId,
        tenant_id: TenantId,
    ) -> Option<oneshot::Sender<Answer>> {
        let mut entries = lock(&self.entries);
        entries.get_mut(&call_id).filter(|entry| entry.tenant_id == tenant_id)?.answer.take()
    }
}

impl WaitingCall {
    /// Waits until the executor has fetched the call.
    pub(super) async fn picked_up(&mut self) {
        let _ = (&mut self.picked_up).await;
    }

    /// Waits for the answer; `None` when it will never come.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for WaitingCall {
    fn drop(&mut self) {
        let entry = lock(&self.entries).remove(&self.call_id);
        // Dropped after the lock is free: a body may do anything when it goes.
        drop(entry);
    }
}

/// A panic elsewhere leaves the map whole: every change is a single call.
fn lock(entries: &Entries) -> std::sync::MutexGuard<'_, HashMap<CallId, Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}
