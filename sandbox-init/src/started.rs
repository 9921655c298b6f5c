//! Which execs were started here, so that none is started twice. The executor's journal knows all of
//! them; this is for a start that comes again, and need not remember for ever.

use std::collections::BTreeSet;

use domain::ids::ExecId;

/// How many are remembered: about a megabyte.
const REMEMBERED: usize = 32_768;

/// See the module.
#[derive(Default)]
pub(crate) struct Started(BTreeSet<ExecId>);

impl Started {
    /// Remembers one, and forgets the oldest one if they are too many: ids are in the order in which
    /// they were made.
    pub(crate) fn insert(&mut self, exec_id: ExecId) {
        self.0.insert(exec_id);
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
    }

    /// Whether this one was started here, as far as is remembered.
    pub(crate) fn contains(&self, exec_id: ExecId) -> bool {
        self.0.contains(&exec_id)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_latest_are_remembered_and_no_more() {
        let id = |number: usize| ExecId::from(Uuid::from_u128(number as u128));
        let mut started = Started::default();
        for number in 0..REMEMBERED + 10 {
            started.insert(id(number));
        }
        assert!((10..REMEMBERED + 10).all(|number| started.contains(id(number))));
        assert_eq!(started.0.len(), REMEMBERED);
    }
}
