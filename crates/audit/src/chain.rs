//! Checks that events form one chain: no gap, no change, nothing swapped.
//!
//! A chain alone cannot show that its end was cut off; signed checkpoints are for that.

use crate::event::{Event, Hash, hash};

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
    /// The event is not the one that was hashed.
    #[error("event {seq} was changed, or an event before it")]
    Changed {
        /// The number of the event.
        seq: i64,
    },
    /// The event belongs to another chain.
    #[error("event {seq} belongs to another chain")]
    OtherChain {
        /// The number of the event.
        seq: i64,
    },
}

/// Checks a chain event by event, in constant memory.
#[derive(Debug)]
pub struct ChainChecker {
    chain: String,
    next_seq: i64,
    head: Hash,
}

impl ChainChecker {
    /// Starts before the first event of `chain`.
    pub fn new(chain: impl Into<String>) -> Self {
        Self { chain: chain.into(), next_seq: 1, head: GENESIS }
    }

    /// Takes the next event with the hash that was stored for it.
    ///
    /// # Errors
    /// When the event does not continue the chain.
    pub fn push(&mut self, event: &Event, stored: &Hash) -> Result<(), BrokenChain> {
        if event.seq != self.next_seq {
            return Err(BrokenChain::Gap { expected: self.next_seq, found: event.seq });
        }
        if event.chain != self.chain {
            return Err(BrokenChain::OtherChain { seq: event.seq });
        }
        if hash(&self.head, event) != *stored {
            return Err(BrokenChain::Changed { seq: event.seq });
        }
        self.next_seq += 1;
        self.head = *stored;
        Ok(())
    }

    /// Events seen, and the hash of the last one.
    pub fn head(&self) -> (i64, Hash) {
        (self.next_seq - 1, self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64) -> Event {
        Event {
            chain: "ten_a".into(),
            seq,
            time_us: 1_000 + seq,
            actor: "agent".into(),
            token_id: None,
            address: Some("127.0.0.1".into()),
            action: "exec.authorize".into(),
            object: "exe_1".into(),
            session_id: None,
            outcome: "allow".into(),
            detail: "{}".into(),
        }
    }

    fn chain(length: i64) -> Vec<(Event, Hash)> {
        let mut head = GENESIS;
        (1..=length)
            .map(|seq| {
                head = hash(&head, &event(seq));
                (event(seq), head)
            })
            .collect()
    }

    fn check(events: &[(Event, Hash)]) -> Result<(), BrokenChain> {
        let mut checker = ChainChecker::new("ten_a");
        events.iter().try_for_each(|(event, stored)| checker.push(event, stored))
    }

    #[test]
    fn an_untouched_chain_holds() {
        assert_eq!(check(&chain(5)), Ok(()));
    }

    #[test]
    fn every_changed_field_is_located() {
        let changes: [fn(&mut Event); 9] = [
            |e| e.time_us += 1,
            |e| e.actor.push('x'),
            |e| e.token_id = Some(String::new()),
            |e| e.address = None,
            |e| e.action.push('x'),
            |e| e.object.push('x'),
            |e| e.session_id = Some("ses_1".into()),
            |e| e.outcome = "deny".into(),
            |e| e.detail = "{ }".into(),
        ];
        for change in changes {
            let mut events = chain(5);
            change(&mut events[2].0);
            assert_eq!(check(&events), Err(BrokenChain::Changed { seq: 3 }));
        }
    }

    #[test]
    fn a_missing_or_swapped_event_is_located() {
        let mut events = chain(5);
        events.remove(2);
        assert_eq!(check(&events), Err(BrokenChain::Gap { expected: 3, found: 4 }));
        let mut events = chain(5);
        events.swap(1, 2);
        assert_eq!(check(&events), Err(BrokenChain::Gap { expected: 2, found: 3 }));
    }

    #[test]
    fn text_cannot_move_from_one_field_to_the_next() {
        let mut shifted = event(1);
        shifted.action = "exec.authorizeexe_1".into();
        shifted.object = String::new();
        assert_ne!(hash(&GENESIS, &event(1)), hash(&GENESIS, &shifted));
    }
}
