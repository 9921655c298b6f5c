//! Which tokens were used, written down once in a while: no request waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::ids::{TenantId, TokenId};

use crate::store::{Store, StoreError};

/// How often it is written down.
const PAUSE: Duration = Duration::from_secs(20);

/// Tokens by whose they are; none is the platform.
type Used = HashMap<Option<TenantId>, HashSet<TokenId>>;

/// See the module.
#[derive(Default)]
pub struct UseLog(Mutex<Used>);

impl UseLog {
    /// Notes that a token was used.
    pub(super) fn note(&self, tenant_id: Option<TenantId>, token_id: TokenId) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.entry(tenant_id).or_default().insert(token_id);
    }

    /// Writes down what was used, for as long as the process lives. What cannot be written is
    /// forgotten: the next use says it again.
    pub(super) async fn keep_written(&self, store: &Store) {
        loop {
            tokio::time::sleep(PAUSE).await;
            if let Err(error) = self.flush(store).await {
                tracing::debug!(%error, "the use of tokens is not written down");
            }
        }
    }

    /// Writes down what was used since the last time.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn flush(&self, store: &Store) -> Result<(), StoreError> {
        let used = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (tenant_id, tokens) in used {
            let mut scope = match tenant_id {
                Some(tenant_id) => store.tenant(tenant_id).await?,
                None => store.platform().await?,
            };
            scope.note_token_use(&tokens).await?;
            scope.commit().await?;
        }
        Ok(())
    }
}
