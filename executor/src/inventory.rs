//! The sandboxes that exist for this process, from before their containers are made until nothing
//! refers to them: whatever else carries our label is a leftover.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use domain::ids::SandboxId;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Inventory {
    ids: Arc<Mutex<HashSet<SandboxId>>>,
}

/// Keeps a sandbox in the inventory.
pub(crate) struct Held {
    id: SandboxId,
    inventory: Inventory,
}

impl Inventory {
    pub(crate) fn hold(&self, id: SandboxId) -> Held {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Held { id, inventory: self.clone() }
    }

    pub(crate) fn has(&self, id: SandboxId) -> bool {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inventory.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
