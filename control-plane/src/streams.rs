//! Open event streams: how many each token has, and that they end when the process stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::ids::TokenId;
use tokio::sync::watch;

/// See the module.
pub struct Streams {
    per_token: usize,
    open: Mutex<HashMap<TokenId, usize>>,
    stopping: watch::Sender<bool>,
}

/// One of a token's streams, for as long as it is kept.
pub struct StreamPermit {
    streams: Arc<Streams>,
    token_id: TokenId,
    /// Changes when the process stops.
    pub stopping: watch::Receiver<bool>,
}

impl Streams {
    /// None is open.
    pub fn new(per_token: usize) -> Self {
        let open = Mutex::new(HashMap::new());
        Self { per_token, open, stopping: watch::channel(false).0 }
    }

    /// Opens one more; none when the token has as many as it may.
    pub fn open(self: &Arc<Self>, token_id: TokenId) -> Option<StreamPermit> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(token_id).or_default();
        if *count >= self.per_token {
            return None;
        }
        *count += 1;
        let stopping = self.stopping.subscribe();
        Some(StreamPermit { streams: self.clone(), token_id, stopping })
    }

    /// Streams that one token may have.
    pub fn per_token(&self) -> usize {
        self.per_token
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
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
        if let Some(count) = open.get_mut(&self.token_id) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.token_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids;

    #[test]
    fn a_token_has_so_many_streams_at_once() {
        let streams = Arc::new(Streams::new(2));
        let (token, other) = (ids::new(), ids::new());
        let first = streams.open(token).expect("one");
        let _second = streams.open(token).expect("two");
        assert!(streams.open(token).is_none());
        let _others = streams.open(other).expect("another token's");
        drop(first);
        assert!(streams.open(token).is_some());
        assert_eq!(streams.count(), 2);
    }
}
