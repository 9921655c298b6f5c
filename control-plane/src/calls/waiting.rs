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

/// Why a call may not wait here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Too many wait in all.
    Places,
    /// Too many of its tenant do.
    Tenant,
    /// Too many of its token do.
    Token,
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

    /// Adds a call, unless there are too many: of all, a quarter of one tenant, an eighth of one
    /// token. What is short and only has to arrive is not kept back by a share.
    pub(super) fn enter(
        &self,
        call_id: CallId,
        tenant_id: TenantId,
        call: Call,
        body: Option<Pieces>,
    ) -> Result<WaitingCall, Full> {
        let (tell_picked_up, picked_up) = oneshot::channel();
        let (tell_answer, answer) = oneshot::channel();
        let mut entries = lock(&self.entries);
        if entries.len() >= self.limit {
            return Err(Full::Places);
        }
        if call.what.is_long() {
            let open =
                |ours: &dyn Fn(&Entry) -> bool| entries.values().filter(|it| ours(it)).count();
            if open(&|it| it.tenant_id == tenant_id) >= self.limit / 4 {
                return Err(Full::Tenant);
            }
            let token = call.token_id;
            if token.is_some() && open(&|it| it.call.token_id == token) >= self.limit / 8 {
                return Err(Full::Token);
            }
        }
        let (picked, told) = (Some(tell_picked_up), Some(tell_answer));
        entries.insert(call_id, Entry { tenant_id, call, body, picked_up: picked, answer: told });
        Ok(WaitingCall { call_id, entries: Arc::clone(&self.entries), picked_up, answer })
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

#[cfg(test)]
mod tests {
    use domain::limits::SandboxLimits;
    use protocol::calls::CallKind;
    use protocol::files::FileRequest;

    use super::*;
    use crate::ids;

    #[test]
    fn no_tenant_and_no_token_has_all_places() {
        let waiting = Waiting::new(16);
        let (tenant, token): (TenantId, domain::ids::TokenId) = (ids::new(), ids::new());
        let enter = |tenant, token, what: &CallKind| {
            let call = Call {
                session_id: ids::new(),
                limits: SandboxLimits::default(),
                image_digest: String::new(),
                min_generation: 1,
                token_id: Some(token),
                what: what.clone(),
                timeout_ms: 1,
            };
            waiting.enter(ids::new(), tenant, call, None)
        };
        let read = CallKind::Files(FileRequest::Stat { path: "a".into() });
        let mut held: Vec<_> =
            (0..2).map(|_| enter(tenant, token, &read).expect("an eighth")).collect();
        assert_eq!(enter(tenant, token, &read).err(), Some(Full::Token));
        held.extend((0..2).map(|_| enter(tenant, ids::new(), &read).expect("a quarter")));
        assert_eq!(enter(tenant, ids::new(), &read).err(), Some(Full::Tenant));
        let signal = CallKind::Signal { exec_id: ids::new(), signal: 15 };
        held.push(enter(tenant, token, &signal).expect("what is short passes"));
        held.extend((0..11).map(|_| enter(ids::new(), ids::new(), &read).expect("others")));
        assert_eq!(enter(ids::new(), ids::new(), &signal).err(), Some(Full::Places));
        held.clear();
        assert!(enter(tenant, token, &read).is_ok());
    }
}
