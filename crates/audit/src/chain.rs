//! Checks that events form one chain: no gap, no change, nothing swapped.
//!
//! A chain alone cannot show that its end was cut off or all of it written anew; signed checkpoints
//! are for that.

use crate::{Event, Hash};

/// What stands in for the hash of the event before the first one.
pub const GENESIS: Hash = [0; 32];

/// Where a chain breaks, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// An event is missing, or two are swapped.
    #[error("event {found} stands where event {expected} should be")]
    Gap {
        /// The number that should come next.
        expected: i64,
        /// The number that came.
        found: i64,
    },
    /// The event belongs to another chain.
    #[error("event {seq} belongs to another chain")]
    OtherChain {
        /// The number of the event.
        seq: i64,
    },
    /// The detail is not the one that was hashed. The rest of the event may be.
    #[error("the detail of event {seq} was changed")]
    DetailChanged {
        /// The number of the event.
        seq: i64,
    },
    /// The event is not the one that was hashed.
    #[error("event {seq} was changed, or an event before it")]
    Changed {
        /// The number of the event.
        seq: i64,
    },
}

impl BrokenChain {
    /// The number at which the chain breaks.
    pub fn seq(&self) -> i64 {
        match *self {
            Self::Gap { expected, .. } => expected,
            Self::OtherChain { seq } | Self::DetailChanged { seq } | Self::Changed { seq } => seq,
        }
    }
}

/// Checks a chain event by event, in constant memory.
#[derive(Debug)]
pub struct ChainChecker {
    chain: String,
    last_seq: i64,
    head: Hash,
}

impl ChainChecker {
    /// Starts before the first event of `chain`.
    pub fn new(chain: impl Into<String>) -> Self {
        Self::after(chain, 0, GENESIS)
    }

    /// Starts after the event `last_seq`, whose hash is `head`.
    pub fn after(chain: impl Into<String>, last_seq: i64, head: Hash) -> Self {
        Self { chain: chain.into(), last_seq, head }
    }

    /// Takes the next event with the hash that was stored for it.
    ///
    /// # Errors
    /// When the event does not continue the chain.
    pub fn push(&mut self, event: &Event, stored: &Hash) -> Result<(), BrokenChain> {
        let expected = self.last_seq.saturating_add(1);
        let seq = event.seq;
        if seq != expected {
            return Err(BrokenChain::Gap { expected, found: seq });
        }
        if event.chain != self.chain {
            return Err(BrokenChain::OtherChain { seq });
        }
        if event.detail.as_ref().is_some_and(|detail| detail.digest() != event.detail_sha256) {
            return Err(BrokenChain::DetailChanged { seq });
        }
        if event.hash(&self.head) != *stored {
            return Err(BrokenChain::Changed { seq });
        }
        self.last_seq = seq;
        self.head = *stored;
        Ok(())
    }

    /// The number of the last event, and its hash.
    pub fn head(&self) -> (i64, Hash) {
        (self.last_seq, self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{chain, event};

    fn check(events: &[(Event, Hash)]) -> Result<(), BrokenChain> {
        let mut checker = ChainChecker::new("ten_a");
        events.iter().try_for_each(|(event, stored)| checker.push(event, stored))
    }

    #[test]
    fn an_untouched_chain_holds() {
        assert_eq!(check(&chain("ten_a", 5)), Ok(()));
    }

    #[test]
    fn an_erased_detail_leaves_the_chain_whole() {
        let mut events = chain("ten_a", 5);
        events[2].0.detail = None;
        assert_eq!(check(&events), Ok(()));
    }

    #[test]
    fn every_changed_field_is_located() {
        let changes: [fn(&mut Event); 15] = [
            |e| e.time_us += 1,
            |e| e.role.push('x'),
            |e| e.token_id = Some(String::new()),
            |e| e.action.push('x'),
            |e| e.object.push('x'),
            |e| e.session_id = None,
            |e| e.exec_id = None,
            |e| e.outcome = "deny".into(),
            |e| e.decision = None,
            |e| e.decision.as_mut().unwrap().outcome.push('x'),
            |e| e.decision.as_mut().unwrap().rules.push("x".into()),
            |e| e.decision.as_mut().unwrap().policy_version = None,
            |e| e.decision.as_mut().unwrap().approver = Some("tok_b".into()),
            |e| e.sandbox.as_mut().unwrap().generation += 1,
            |e| e.sandbox.as_mut().unwrap().image_digest = None,
        ];
        for change in changes {
            let mut events = chain("ten_a", 5);
            change(&mut events[2].0);
            assert_eq!(check(&events), Err(BrokenChain::Changed { seq: 3 }));
        }
    }

    #[test]
    fn every_changed_part_of_the_detail_is_located() {
        let changes: [fn(&mut crate::Detail); 7] = [
            |d| d.salt[0] ^= 1,
            |d| d.actor.push('x'),
            |d| d.address = None,
            |d| d.reasons.push(String::new()),
            |d| d.stdout_sha256 = None,
            |d| d.stderr_sha256 = Some([1; 32]),
            |d| d.data = "{ }".into(),
        ];
        for change in changes {
            let mut events = chain("ten_a", 5);
            change(events[2].0.detail.as_mut().unwrap());
            assert_eq!(check(&events), Err(BrokenChain::DetailChanged { seq: 3 }));
        }
    }

    #[test]
    fn a_missing_or_swapped_event_is_located() {
        let mut events = chain("ten_a", 5);
        events.remove(2);
        assert_eq!(check(&events), Err(BrokenChain::Gap { expected: 3, found: 4 }));
        let mut events = chain("ten_a", 5);
        events.swap(1, 2);
        assert_eq!(check(&events), Err(BrokenChain::Gap { expected: 2, found: 3 }));
    }

    #[test]
    fn an_event_of_another_chain_is_refused() {
        let mut events = chain("ten_a", 5);
        events[2] = chain("ten_b", 5)[2].clone();
        assert_eq!(check(&events), Err(BrokenChain::OtherChain { seq: 3 }));
    }

    #[test]
    fn text_cannot_move_from_one_field_to_the_next() {
        let mut shifted = event("ten_a", 1);
        shifted.action = "exec.authorizeexe_1".into();
        shifted.object = String::new();
        assert_ne!(event("ten_a", 1).hash(&GENESIS), shifted.hash(&GENESIS));
    }
}
