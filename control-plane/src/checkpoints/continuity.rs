//! Whether what was signed is still there, which is looked at before anything is signed again. Who
//! rewrites a chain in the database, however consistently, changes the hash of its last signed event
//! or the proof of what that was; the proofs together have to give the root of the last checkpoint,
//! which is signed.

use std::collections::HashMap;

use audit::{Checkpoint, Hash, Leaf, Tree};

use super::CheckpointError;
use crate::store::{ChainHead, Scope};

/// Compares the chains and what is known of them with the last checkpoint.
///
/// # Errors
/// [`CheckpointError::Contradiction`] and [`CheckpointError::Proofs`].
pub(super) async fn check(
    scope: &mut Scope,
    heads: &[ChainHead],
    last: Option<&Checkpoint>,
) -> Result<(), CheckpointError> {
    check_proofs(heads, last)?;
    check_heads(heads)?;
    let grown: Vec<_> = heads.iter().filter_map(signed_part).collect();
    let asked: Vec<_> = grown.iter().map(|(head, size, _)| (&*head.leaf.chain, *size)).collect();
    let now: HashMap<_, _> = scope.list_audit_hashes(&asked).await?.into_iter().collect();
    let is_kept = |head: &ChainHead, signed: Hash| {
        now.get(&head.leaf.chain).is_some_and(|hash| hash[..] == signed)
    };
    match grown.iter().find(|(head, _, signed)| !is_kept(head, *signed)) {
        None => Ok(()),
        Some((head, ..)) => Err(contradiction(head)),
    }
}

/// The proofs of all chains are those of the last checkpoint, none more and none less.
fn check_proofs(heads: &[ChainHead], last: Option<&Checkpoint>) -> Result<(), CheckpointError> {
    let proven = heads.iter().filter_map(|ChainHead { leaf, proven }| {
        let (size, head) = (*proven)?;
        Some(Leaf { chain: leaf.chain.clone(), size, head })
    });
    let tree = Tree::new(proven.collect());
    let holds = match last {
        Some(last) => tree.size() == last.chains && tree.root() == last.root,
        None => tree.size() == 0,
    };
    if holds { Ok(()) } else { Err(CheckpointError::Proofs) }
}

/// A chain only grows.
fn check_heads(heads: &[ChainHead]) -> Result<(), CheckpointError> {
    let broken = heads.iter().find(|ChainHead { leaf, proven }| {
        proven.is_some_and(|(size, head)| {
            leaf.size < size || (leaf.size == size && leaf.head != head)
        })
    });
    match broken {
        None => Ok(()),
        Some(head) => Err(contradiction(head)),
    }
}

/// A chain that has grown since it was signed, with the number and the hash of the last event of what
/// was.
fn signed_part(head: &ChainHead) -> Option<(&ChainHead, i64, Hash)> {
    let (size, signed) = head.proven?;
    (0 < size && size < head.leaf.size).then_some((head, size, signed))
}

fn contradiction(head: &ChainHead) -> CheckpointError {
    CheckpointError::Contradiction { chain: head.leaf.chain.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(chain: &str, size: i64, proven: Option<(i64, u8)>) -> ChainHead {
        let leaf = Leaf { chain: chain.into(), size, head: [9; 32] };
        ChainHead { leaf, proven: proven.map(|(size, byte)| (size, [byte; 32])) }
    }

    /// A checkpoint over the proofs of these chains.
    fn last(proofs: &[(&str, i64, u8)]) -> Checkpoint {
        let leaf = |(chain, size, byte): &(&str, i64, u8)| Leaf {
            chain: (*chain).into(),
            size: *size,
            head: [*byte; 32],
        };
        let tree = Tree::new(proofs.iter().map(leaf).collect());
        Checkpoint {
            origin: "test".into(),
            chains: tree.size(),
            root: tree.root(),
            number: 7,
            time_us: 1,
            previous: audit::GENESIS,
        }
    }

    #[test]
    fn proofs_have_to_give_the_signed_root() {
        let signed = last(&[("a", 3, 1), ("b", 2, 2)]);
        let holds = |heads: &[ChainHead]| check_proofs(heads, Some(&signed)).is_ok();
        let (a, b) = (head("a", 5, Some((3, 1))), head("b", 2, Some((2, 2))));
        assert!(holds(&[a.clone(), b.clone(), head("new", 1, None)]));
        // A proof that is gone, one that was changed, an older one, a chain that vanished.
        assert!(!holds(&[head("a", 5, None), b.clone()]));
        assert!(!holds(&[head("a", 5, Some((3, 3))), b.clone()]));
        assert!(!holds(&[head("a", 5, Some((2, 1))), b.clone()]));
        assert!(!holds(std::slice::from_ref(&a)));
        // One too many, and some where nothing was ever signed.
        assert!(!holds(&[a.clone(), b.clone(), head("new", 1, Some((1, 9)))]));
        assert!(check_proofs(&[a], None).is_err());
        assert!(check_proofs(&[head("new", 1, None)], None).is_ok());
    }

    #[test]
    fn a_chain_only_grows() {
        assert!(check_heads(&[head("a", 5, Some((3, 1))), head("b", 1, None)]).is_ok());
        assert!(check_heads(&[head("a", 3, Some((3, 9)))]).is_ok());
        assert!(check_heads(&[head("a", 3, Some((3, 1)))]).is_err());
        assert!(check_heads(&[head("a", 2, Some((3, 9)))]).is_err());
    }
}
