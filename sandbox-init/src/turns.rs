//! Whose turn it is to speak: each of many in order, one thing at a time, so that none is kept from it
//! by others that always have something to say.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

/// Lets the first one behind `last` that has something to say say one thing, and remembers it. Gives
/// `false` when nobody has.
///
/// # Errors
/// What `say` gives.
pub(crate) fn speak<K: Copy + Ord, S, E>(
    speakers: &mut BTreeMap<K, S>,
    last: &mut Option<K>,
    mut say: impl FnMut(&mut S) -> Result<bool, E>,
) -> Result<bool, E> {
    let (behind, before) = match *last {
        Some(last) => ((Excluded(last), Unbounded), Some((Unbounded, Included(last)))),
        None => ((Unbounded, Unbounded), None),
    };
    for range in std::iter::once(behind).chain(before) {
        for (key, speaker) in speakers.range_mut(range) {
            if say(speaker)? {
                *last = Some(*key);
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Lets speakers with so many things to say speak `times` times. Gives who spoke.
    fn order(things: &[(char, usize)], last: &mut Option<char>, times: usize) -> String {
        let mut speakers: BTreeMap<_, _> =
            things.iter().map(|(name, count)| (*name, (*name, *count))).collect();
        let mut order = String::new();
        for _ in 0..times {
            let spoke = speak(&mut speakers, last, |(name, left)| {
                if *left > 0 {
                    *left -= 1;
                    order.push(*name);
                    return Ok::<_, Infallible>(true);
                }
                Ok(false)
            });
            assert!(spoke.is_ok());
        }
        order
    }

    #[test]
    fn one_that_never_ends_keeps_nobody_waiting() {
        let mut last = None;
        assert_eq!(order(&[('a', 99), ('b', 99), ('c', 1)], &mut last, 8), "abcababa");
        // The one that was served last comes last, also when the socket was full meanwhile.
        assert_eq!(last, Some('a'));
        assert_eq!(order(&[('a', 99), ('b', 1)], &mut last, 3), "baa");
        assert_eq!(order(&[('b', 1)], &mut last, 2), "b");
        assert_eq!(order(&[], &mut last, 1), "");
    }
}
