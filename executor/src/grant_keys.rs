//! The control plane's public keys that grants are checked with. New ones are learned from its key
//! set: at once when a grant names one that is not known, and every half minute, so that what was
//! retired there is refused here.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::{DecodingKey, decode_header};
use protocol::grant::hex;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::control::ControlPlane;

/// How often the key set is read, whether or not anything new was seen.
const REFRESH: Duration = Duration::from_secs(30);
/// A key set that was read this lately is not read again for a grant's sake.
const FRESH: Duration = Duration::from_secs(1);
/// How long a grant waits for the key set.
const PATIENCE: Duration = Duration::from_secs(5);
/// Keys that are believed to belong to one control plane.
const MAX_KEYS: usize = 16;

type Known = HashMap<String, Arc<DecodingKey>>;

/// See the module.
pub struct GrantKeys {
    known: RwLock<Arc<Known>>,
    /// When the key set was last asked for. Held while it is.
    asked_at: Mutex<Option<Instant>>,
}

impl GrantKeys {
    /// The key that came with the enrolment, an Ed25519 public key, is known.
    pub fn new(first: [u8; 32]) -> Self {
        Self { known: RwLock::new(Arc::new(by_name([first]))), asked_at: Mutex::default() }
    }

    /// The keys that may have signed a grant: the one that it names, or any where it names none.
    pub(crate) fn candidates(&self, grant: &str) -> Vec<Arc<DecodingKey>> {
        let known = self.known();
        match kid(grant) {
            Some(kid) => known.get(&kid).cloned().into_iter().collect(),
            None => known.values().cloned().collect(),
        }
    }

    /// Reads the key set if a grant names a key that is not known. What cannot be read changes
    /// nothing; the grant is refused then, and its exec may be asked for again.
    pub(crate) async fn learn_from(&self, control: &ControlPlane, grant: &str) {
        let Some(kid) = kid(grant) else { return };
        if self.known().contains_key(&kid) {
            return;
        }
        let mut asked_at = self.asked_at.lock().await;
        // Others may have asked while we waited for our turn.
        let is_fresh = asked_at.is_some_and(|at| at.elapsed() < FRESH);
        if is_fresh || self.known().contains_key(&kid) {
            return;
        }
        *asked_at = Some(Instant::now());
        let _ = tokio::time::timeout(PATIENCE, self.read(control)).await;
    }

    /// Keeps the keys as the control plane has them, for as long as the process lives.
    pub(crate) async fn keep_fresh(self: Arc<Self>, control: Arc<ControlPlane>) {
        loop {
            tokio::time::sleep(REFRESH).await;
            self.read(&control).await;
        }
    }

    async fn read(&self, control: &ControlPlane) {
        match control.get_grant_keys().await {
            Ok(keys) if !keys.is_empty() && keys.len() <= MAX_KEYS => {
                let known = Arc::new(by_name(keys));
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
            }
            Ok(keys) => tracing::warn!(count = keys.len(), "a key set that makes no sense"),
            Err(error) => tracing::debug!(%error, "the key set was not read; the known keys stay"),
        }
    }

    fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The key that a grant says it is signed with.
fn kid(grant: &str) -> Option<String> {
    decode_header(grant).ok()?.kid
}

/// Keys by the name that follows from each: nobody else's word is taken for it.
fn by_name(keys: impl IntoIterator<Item = [u8; 32]>) -> Known {
    let name = |key: &[u8; 32]| {
        let mut name = hex(&Sha256::digest(key));
        name.truncate(16);
        name
    };
    keys.into_iter().map(|key| (name(&key), Arc::new(DecodingKey::from_ed_der(&key)))).collect()
}
