//! The warm pool: containers of the default image with default limits and an empty workspace, ready
//! and connected. One that was claimed never comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::limits::SandboxLimits;
use domain::sandbox::SandboxState;
use tokio::sync::{Notify, watch};

use super::site::{Fate, Site, Work};
use crate::backoff::Backoff;
use crate::inventory::Inventory;
use crate::profile::Purpose;
use crate::sandbox::Sandbox;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How long Docker is left alone after a container was taken.
pub(super) const CALM: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Pool {
    size: usize,
    members: Mutex<VecDeque<Arc<Sandbox>>>,
    wanted: Notify,
    /// Containers that sessions wait for: the pool does not compete with them.
    cold: watch::Sender<usize>,
}

/// A session waits for a container of its own.
pub(super) struct Cold<'a>(&'a Pool);

impl Drop for Cold<'_> {
    fn drop(&mut self) {
        self.0.cold.send_modify(|count| *count -= 1);
    }
}

impl Pool {
    pub(super) fn new(size: usize) -> Self {
        Self { size, members: Mutex::default(), wanted: Notify::new(), cold: watch::Sender::new(0) }
    }

    /// Keeps the pool from working meanwhile.
    pub(super) fn begin_cold(&self) -> Cold<'_> {
        self.cold.send_modify(|count| *count += 1);
        Cold(self)
    }

    /// Takes a container that is ready now, if there is one.
    pub(super) fn claim(&self) -> Option<Arc<Sandbox>> {
        self.mark_connected();
        let mut members = lock(&self.members);
        let at = members.iter().position(|member| state(member) == SandboxState::Pooled)?;
        let member = members.remove(at);
        drop(members);
        self.wanted.notify_one();
        member
    }

    /// Takes over a container of an earlier life, unless there are enough. It counts as ready once
    /// its PID 1 has connected again.
    pub(super) fn adopt(&self, sandbox: Sandbox) -> bool {
        let mut members = lock(&self.members);
        if members.len() >= self.size {
            return false;
        }
        members.push_back(Arc::new(sandbox));
        true
    }

    /// Members that cannot be claimed any more, or are older than this: they are the caller's now.
    pub(super) fn take_spent(&self, max_age: Duration) -> Vec<Arc<Sandbox>> {
        let mut members = lock(&self.members);
        let spent = |member: &Arc<Sandbox>| state(member).is_gone() || member.age() > max_age;
        let (spent, kept) = members.drain(..).partition(spent);
        *members = kept;
        drop(members);
        self.wanted.notify_one();
        Vec::from(spent)
    }

    /// Fills the pool for ever, one container at a time.
    pub(super) async fn refill(&self, site: &Site, inventory: &Inventory) {
        let recipe = site.pool_recipe();
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            self.mark_connected();
            if lock(&self.members).len() >= self.size {
                self.wanted.notified().await;
                // Whoever took one has a command to start; making the next one can wait for that.
                tokio::time::sleep(CALM).await;
                continue;
            }
            let mut cold = self.cold.subscribe();
            // The sender is ours: it cannot be closed.
            let _ = cold.wait_for(|count| *count == 0).await;
            let (purpose, limits) = (Purpose::Pool(&recipe), SandboxLimits::default());
            match site.make(inventory, purpose, limits, &site.default_image, Work::New).await {
                Ok((sandbox, _)) => {
                    backoff.reset();
                    sandbox.mark_pooled();
                    tracing::debug!(sandbox = %sandbox.id(), "waits in the pool");
                    lock(&self.members).push_back(Arc::new(sandbox));
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "no container for the pool"
                    );
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Adopted members connect when they like.
    fn mark_connected(&self) {
        for member in lock(&self.members).iter() {
            if state(member) == SandboxState::Ready {
                member.mark_pooled();
            }
        }
    }
}

fn state(sandbox: &Sandbox) -> SandboxState {
    sandbox.presence().borrow().state
}

/// Takes apart what nobody has used.
pub(super) async fn discard(site: &Site, sandbox: &Sandbox) {
    sandbox.mark_removed();
    site.clear_away(sandbox.id(), sandbox.container(), sandbox.workspace(), Fate::Delete).await;
}

/// A panic elsewhere leaves the queue whole: every change is a single call.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
