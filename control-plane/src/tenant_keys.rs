//! Tenants' payload keys and names, read once and kept: they never change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::ids::TenantId;
use sealing::Key;

use crate::keys::Keys;
use crate::outcome::OutcomeError;
use crate::store::Store;

/// What sealing for a tenant and its queues take.
#[derive(Clone)]
pub struct TenantSecrets {
    /// Seals what its executors read.
    pub payload_key: Key,
    /// Its name, which is part of its queues' names.
    pub name: String,
}

/// See the module.
pub struct TenantKeys {
    store: Store,
    keys: Arc<Keys>,
    known: Mutex<HashMap<TenantId, TenantSecrets>>,
}

impl TenantKeys {
    /// Knows none yet.
    pub fn new(store: Store, keys: Arc<Keys>) -> Self {
        Self { store, keys, known: Mutex::new(HashMap::new()) }
    }

    /// The secrets of a tenant.
    ///
    /// # Errors
    /// When the database fails or the master key is another one.
    pub async fn get(&self, tenant_id: TenantId) -> Result<TenantSecrets, OutcomeError> {
        let known =
            self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant_id).cloned();
        if let Some(secrets) = known {
            return Ok(secrets);
        }
        let tenant = self.store.tenant(tenant_id).await?.get_own_tenant().await?;
        let secrets = TenantSecrets {
            payload_key: self.keys.unwrap(tenant_id, &tenant.payload_key)?,
            name: tenant.name,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(tenant_id, secrets.clone());
        Ok(secrets)
    }
}
