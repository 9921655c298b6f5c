//! Open event streams: how many each token and each tenant has, and that they end when the process
//! stops.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use domain::ids::{TenantId, TokenId};
use tokio::sync::watch;

/// See the module.
pub struct Streams {
    per_token: usize,
    per_tenant: usize,
    open: Mutex<Open>,
    stopping: watch::Sender<bool>,
}

#[derive(Default)]
struct Open {
    tokens: HashMap<TokenId, usize>,
    tenants: HashMap<TenantId, usize>,
}

/// One of a token's streams, for as long as it is kept.
pub struct StreamPermit {
    streams: Arc<Streams>,
    token_id: TokenId,
    tenant_id: TenantId,
    /// Changes when the process stops.
    pub stopping: watch::Receiver<bool>,
}

/// Whose streams are as many as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMany {
    /// The token's.
    OfToken,
    /// The tenant's.
    OfTenant,
}

impl Streams {
    /// None is open.
    pub fn new(per_token: usize, per_tenant: usize) -> Self {
        Self { per_token, per_tenant, open: Mutex::default(), stopping: watch::channel(false).0 }
    }

    /// Opens one more.
    ///
    /// # Errors
    /// When the token or its tenant has as many as it may.
    pub fn open(
        self: &Arc<Self>,
        token_id: TokenId,
        tenant_id: TenantId,
    ) -> Result<StreamPermit, TooMany> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.tokens.get(&token_id).is_some_and(|count| *count >= self.per_token) {
            return Err(TooMany::OfToken);
        }
        if open.tenants.get(&tenant_id).is_some_and(|count| *count >= self.per_tenant) {
            return Err(TooMany::OfTenant);
        }
        *open.tokens.entry(token_id).or_default() += 1;
        *open.tenants.entry(tenant_id).or_default() += 1;
        let stopping = self.stopping.subscribe();
        Ok(StreamPermit { streams: self.clone(), token_id, tenant_id, stopping })
    }

    /// Streams that all tokens of a tenant may have together.
    pub fn per_tenant(&self) -> usize {
        self.per_tenant
    }

    /// Streams that one token may have.
    pub fn per_token(&self) -> usize {
        self.per_token
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).tokens.values().sum()
    }

    /// Ends all of them: their clients go on elsewhere.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the process stops.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        give_back(&mut open.tokens, &self.token_id);
        give_back(&mut open.tenants, &self.tenant_id);
    }
}

fn give_back<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids;

    #[test]
    fn a_token_has_so_many_streams_at_once() {
        let streams = Arc::new(Streams::new(2, 9));
        let (token, other, tenant) = (ids::new(), ids::new(), ids::new());
        let first = streams.open(token, tenant).expect("one");
        let _second = streams.open(token, tenant).expect("two");
        assert_eq!(streams.open(token, tenant).err(), Some(TooMany::OfToken));
        let _others = streams.open(other, tenant).expect("another token's");
        drop(first);
        assert!(streams.open(token, tenant).is_ok());
        assert_eq!(streams.count(), 2);
    }

    #[test]
    fn many_tokens_of_a_tenant_have_no_more_than_it_may() {
        let streams = Arc::new(Streams::new(2, 3));
        let tenant = ids::new();
        let mut held: Vec<_> =
            (0..3).map(|_| streams.open(ids::new(), tenant).expect("one of three")).collect();
        assert_eq!(streams.open(ids::new(), tenant).err(), Some(TooMany::OfTenant));
        assert!(streams.open(ids::new(), ids::new()).is_ok(), "another tenant");
        held.pop();
        assert!(streams.open(ids::new(), tenant).is_ok());
        held.clear();
        let open = streams.open.lock().expect("not poisoned");
        assert!(open.tokens.is_empty() && open.tenants.is_empty());
    }
}
