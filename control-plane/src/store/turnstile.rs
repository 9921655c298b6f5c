//! Who may append to a chain now. The database lets one at a time do it; a crowd that waits for it
//! there costs more than the work. So only a few of this process go there at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ACQUIRE_TIMEOUT, StoreError};

/// One at work, and one that is there when it has finished.
const AT_ONCE: usize = 2;
/// From how many chains on those that nobody waits for are forgotten.
const MANY: usize = 1024;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Turnstile(Arc<Mutex<HashMap<String, Arc<Semaphore>>>>);

impl Turnstile {
    /// Waits for a turn at `chain`, which lasts until what is returned is dropped.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it takes too long.
    pub(super) async fn enter(&self, chain: &str) -> Result<OwnedSemaphorePermit, StoreError> {
        let turn = self.of(chain).acquire_owned();
        match tokio::time::timeout(ACQUIRE_TIMEOUT, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }

    fn of(&self, chain: &str) -> Arc<Semaphore> {
        let mut chains = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if chains.len() >= MANY {
            chains.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let turns = chains.entry(chain.to_owned());
        turns.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chain_lets_a_few_in_and_another_one_is_not_concerned() {
        let turnstile = Turnstile::default();
        let first = turnstile.enter("a").await.expect("a turn");
        let _second = turnstile.enter("a").await.expect("a turn");
        assert!(turnstile.of("a").try_acquire().is_err());
        drop(turnstile.enter("b").await.expect("a turn"));
        drop(first);
        drop(turnstile.enter("a").await.expect("a turn"));
    }

    #[tokio::test]
    async fn only_chains_that_somebody_waits_for_are_kept() {
        let turnstile = Turnstile::default();
        let _held = turnstile.enter("held").await.expect("a turn");
        for number in 0..2 * MANY {
            drop(turnstile.enter(&number.to_string()).await.expect("a turn"));
        }
        let chains = turnstile.0.lock().expect("nobody panicked");
        assert!(chains.len() <= MANY && chains.contains_key("held"));
    }
}
