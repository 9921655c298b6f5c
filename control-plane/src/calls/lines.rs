//! The open lines of executors at this replica.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use domain::ids::{ExecutorId, TenantId};
use protocol::calls::Ring;
use tokio::sync::mpsc;

/// Rings that wait on one line before the executor counts as stuck.
const QUEUE: usize = 256;

type Key = (TenantId, ExecutorId);

/// See the module.
#[derive(Default)]
pub struct Lines {
    open: Mutex<HashMap<Key, mpsc::Sender<Ring>>>,
}

/// The end of a line that its executor's connection holds.
pub struct Line {
    rings: mpsc::Receiver<Ring>,
}

impl Line {
    /// The next ring; `None` when a newer line of the same executor took this one's place.
    pub async fn next(&mut self) -> Option<Ring> {
        self.rings.recv().await
    }
}

impl Lines {
    /// Opens an executor's line. An older one of the same executor ends.
    pub fn open(&self, tenant_id: TenantId, executor_id: ExecutorId) -> Line {
        let (sender, rings) = mpsc::channel(QUEUE);
        let mut open = self.lock();
        open.retain(|_, line| !line.is_closed());
        open.insert((tenant_id, executor_id), sender);
        Line { rings }
    }

    /// Rings at an executor that is connected here. False when it is not.
    pub fn ring(&self, tenant_id: TenantId, executor_id: ExecutorId, ring: &Ring) -> bool {
        let open = self.lock();
        open.get(&(tenant_id, executor_id)).is_some_and(|line| line.try_send(ring.clone()).is_ok())
    }

    /// A panic elsewhere leaves the map whole: every change is a single call.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, mpsc::Sender<Ring>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[tokio::test]
    async fn a_ring_reaches_the_newest_line_of_its_executor_only() {
        let lines = Lines::default();
        let tenant = Uuid::from_u128(1).into();
        let executor = Uuid::from_u128(2).into();
        let ring = Ring { call_id: Uuid::from_u128(3).into(), url: "http://a".into() };
        assert!(!lines.ring(tenant, executor, &ring), "nobody is connected");
        let mut old = lines.open(tenant, executor);
        let mut new = lines.open(tenant, executor);
        assert!(lines.ring(tenant, executor, &ring));
        assert_eq!(old.next().await, None);
        assert_eq!(new.next().await, Some(ring.clone()));
        assert!(!lines.ring(Uuid::from_u128(9).into(), executor, &ring), "another tenant");
        drop(new);
        assert!(!lines.ring(tenant, executor, &ring));
    }
}
