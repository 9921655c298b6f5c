//! Policies ready to decide, kept per tenant and version. Loading one is bounded in time and number:
//! a policy carries its own tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::ids::TenantId;
use policy::{CommandRequest, Engine, PolicyError};
use tokio::sync::Semaphore;

use super::Active;
use crate::store::{Scope, StoreError, Who};

/// How long a stored policy may take to load before everything asks: well below the time that the
/// activity `authorize` has.
const STORED_LIMIT: Duration = Duration::from_secs(5);
/// How long a policy may take that somebody wants to put. Shorter, so that what was put loads later.
const DRAFT_LIMIT: Duration = Duration::from_secs(2);
/// Policies that are loaded at once.
const MAX_LOADING: usize = 2;
/// Tenants whose policies are kept.
const MAX_KEPT: usize = 1000;

/// Why a policy does not load.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// It is not valid, or one of its tests fails.
    #[error("{0}")]
    Invalid(PolicyError),
    /// It takes too long.
    #[error("the policy and its tests take longer than {} seconds", DRAFT_LIMIT.as_secs())]
    TooSlow,
}

type Known = Arc<Mutex<HashMap<TenantId, (i64, Active)>>>;

/// See the module.
pub struct Engines {
    known: Known,
    loading: Arc<Semaphore>,
    replays: Arc<Semaphore>,
}

impl Default for Engines {
    /// Reads the catalogue and the shipped policy ahead of the first command, which holds rows that
    /// others wait for while it is decided.
    fn default() -> Self {
        std::thread::spawn(|| {
            Engine::shipped().decide(&CommandRequest { command: "true", ..Default::default() })
        });
        Self {
            known: Known::default(),
            loading: Arc::new(Semaphore::new(MAX_LOADING)),
            replays: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Engines {
    /// The scope's tenant's policy of this version; the shipped default for 0.
    ///
    /// A stored text that does not load asks about everything.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn get(&self, scope: &mut Scope, version: i64) -> Result<Active, StoreError> {
        let Who::Tenant(tenant_id) = scope.who() else {
            return Err(StoreError::Inconsistent("policy scope"));
        };
        if version == 0 {
            return Ok(Active::new(Engine::shipped()));
        }
        if let Some(active) = self.find(tenant_id, version) {
            return Ok(active);
        }
        let text = scope.get_policy(version).await?.text;
        let known = self.known.clone();
        let keep = move |loaded: Result<Engine, PolicyError>| {
            let active = match loaded {
                Ok(engine) => Active::new(engine.with_version(version)),
                Err(error) => {
                    tracing::error!(%tenant_id, version, line = error.line, "policy does not load");
                    Active::unreadable(version, "cannot be read by this version of the program")
                }
            };
            keep(&known, tenant_id, version, active.clone());
            active
        };
        let loading = self.load(text, keep);
        Ok(match tokio::time::timeout(STORED_LIMIT, loading).await {
            Ok(Some(active)) => active,
            _ => {
                tracing::error!(%tenant_id, version, "policy is not loaded in time");
                Active::unreadable(version, "could not be loaded in time")
            }
        })
    }

    /// Reads a policy that is not stored, and runs its tests.
    ///
    /// # Errors
    /// See [`LoadFailure`].
    pub async fn load_draft(&self, text: &str) -> Result<Engine, LoadFailure> {
        let loading = self.load(text.to_owned(), |loaded| loaded);
        match tokio::time::timeout(DRAFT_LIMIT, loading).await {
            Ok(Some(loaded)) => loaded.map_err(LoadFailure::Invalid),
            _ => Err(LoadFailure::TooSlow),
        }
    }

    /// The one place of those who decide all of the past again.
    pub fn replays(&self) -> Arc<Semaphore> {
        self.replays.clone()
    }

    /// Loads on a thread of its own, which keeps its place until it is done, whoever still waits.
    async fn load<T: Send + 'static>(
        &self,
        text: String,
        then: impl FnOnce(Result<Engine, PolicyError>) -> T + Send + 'static,
    ) -> Option<T> {
        let place = self.loading.clone().acquire_owned().await.ok()?;
        tokio::task::spawn_blocking(move || {
            let _place = place;
            then(Engine::load(&text))
        })
        .await
        .ok()
    }

    fn find(&self, tenant_id: TenantId, version: i64) -> Option<Active> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&tenant_id).filter(|(kept, _)| *kept == version).map(|(_, active)| active.clone())
    }
}

fn keep(known: &Known, tenant_id: TenantId, version: i64, active: Active) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.get(&tenant_id).is_some_and(|(kept, _)| *kept > version) {
        return;
    }
    if known.len() >= MAX_KEPT {
        known.clear();
    }
    known.insert(tenant_id, (version, active));
}
