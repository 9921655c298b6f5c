//! The tokens that were called back, as last read from the database.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::{JtiHash, TokenError};

/// How old the set may be before nobody is let in.
const MAX_STALENESS: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Default)]
pub(super) struct Revocations(RwLock<Known>);

#[derive(Default)]
struct Known {
    hashes: HashSet<JtiHash>,
    read_at: Option<Instant>,
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.read_at.is_some_and(|at| at.elapsed() <= MAX_STALENESS)
    }
}

impl Revocations {
    /// Whether the set is known well enough to let anybody in.
    pub(super) fn is_fresh(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_fresh()
    }

    /// Takes a set that was asked for at `read_at`.
    pub(super) fn replace(&self, hashes: Vec<Vec<u8>>, read_at: Instant) {
        let hashes = hashes.into_iter().filter_map(|hash| hash.try_into().ok()).collect();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Two reads may overtake one another; the later one counts.
        if known.read_at.is_none_or(|at| at < read_at) {
            *known = Known { hashes, read_at: Some(read_at) };
        }
    }

    /// Refuses a token that was revoked, and every one while that cannot be told.
    pub(super) fn check(&self, hash: &JtiHash) -> Result<(), TokenError> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match known.is_fresh() {
            false => Err(TokenError::Unknown),
            true if known.hashes.contains(hash) => Err(TokenError::Revoked),
            true => Ok(()),
        }
    }
}
