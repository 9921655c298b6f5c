//! Stops what has been idle for too long or lives for too long, and takes apart what died. Works
//! under the lock of a session's slot, where every use begins too: a command either comes first and
//! keeps its container, or comes later and gets a new one.

use std::sync::Arc;
use std::time::Duration;

use domain::ids::SessionId;
use tokio::time::Instant;

use super::pool::discard;
use super::{Harbour, Slot, lock};
use crate::sandbox::Sandbox;

/// Bounds of the time between two looks.
const OFTEN: Duration = Duration::from_millis(200);
const SELDOM: Duration = Duration::from_secs(15);
/// How often leftovers are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(180);

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Idle,
    Age,
}

impl Harbour {
    pub(super) async fn reap_forever(&self) {
        let lifecycle = self.site.lifecycle;
        let pause = lifecycle.idle_timeout.min(lifecycle.max_lifetime) / 4;
        let pause = pause.clamp(OFTEN, SELDOM);
        let mut next_sweep = Instant::now() + SWEEP_EVERY;
        loop {
            tokio::time::sleep(pause).await;
            self.reap().await;
            if Instant::now() >= next_sweep {
                self.sweep().await;
                next_sweep = Instant::now() + SWEEP_EVERY;
            }
        }
    }

    async fn reap(&self) {
        let slots: Vec<(SessionId, Slot)> =
            lock(&self.slots).iter().map(|(id, slot)| (*id, Arc::clone(slot))).collect();
        for (session_id, slot) in slots {
            // Somebody works on it: then it is not idle.
            let Ok(mut berth) = slot.try_lock() else { continue };
            let Some(sandbox) = &berth.sandbox else { continue };
            let Some(idle) = sandbox.idle() else { continue };
            let gone = sandbox.presence().borrow().is_gone();
            if !gone {
                let Some(why) = self.verdict(sandbox, idle) else { continue };
                tracing::info!(session = %session_id, sandbox = %sandbox.id(), ?why, "stopped");
                sandbox.mark_stopped();
            }
            // Should something of it stay behind, the next container waits for its workspace.
            self.put_away(sandbox).await;
            berth.sandbox = None;
        }
        // Claimed ones shall have half a life before them.
        for spent in self.pool.take_spent(self.site.lifecycle.max_lifetime / 2) {
            discard(&self.site, &spent).await;
        }
    }

    fn verdict(&self, sandbox: &Sandbox, idle: Duration) -> Option<Stop> {
        // Without a disk the files would go with the container.
        sandbox.workspace()?;
        let lifecycle = self.site.lifecycle;
        if sandbox.age() >= lifecycle.max_lifetime {
            return Some(Stop::Age);
        }
        if idle < lifecycle.idle_timeout {
            return None;
        }
        // Nothing outlives its exec; where the kernel says otherwise, its age will end it.
        if sandbox.processes().is_some_and(|count| count > 1) {
            tracing::warn!(sandbox = %sandbox.id(), "idle, and yet something runs in it");
            return None;
        }
        Some(Stop::Idle)
    }
}
