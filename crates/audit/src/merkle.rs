//! Merkle trees as in RFC 6962: the root over a list of leaves, and the proof that one is in it.

use sha2::{Digest, Sha256};

use crate::Hash;

/// Longest proof that is looked at: a tree of `u64::MAX` leaves needs no more.
pub(crate) const MAX_PATH: usize = 64;

/// The hash of a leaf. Leaves and nodes are hashed differently, so neither passes for the other.
pub(crate) fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root over the hashes of leaves.
pub(crate) fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// The hashes that lead from the leaf `index` to the root, from below.
pub(crate) fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut below, beside) = if index < middle {
        (path(left, index), root(right))
    } else {
        (path(right, index - middle), root(left))
    };
    below.push(beside);
    below
}

/// The largest power of two below `length`, which is at least 2.
fn split(length: usize) -> usize {
    length.next_power_of_two() / 2
}

/// The root that `path` leads to from the leaf `index` of `size`; `None` if it fits no such tree
/// (RFC 9162, section 2.1.3.2).
pub(crate) fn root_of_path(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size || path.len() > MAX_PATH {
        return None;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for beside in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(beside, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, beside);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_le_bytes())).collect()
    }

    #[test]
    fn roots_are_those_of_the_rfc() {
        // Worked out by hand from the definition, with another implementation of SHA-256.
        let data: [&[u8]; 3] = [b"", b"\x00", b"\x10"];
        let hashes: Vec<Hash> = data.iter().map(|leaf| leaf_hash(leaf)).collect();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex::encode(&root(&[])), empty);
        let one = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(hex::encode(&root(&hashes[..1])), one);
        let two = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";
        assert_eq!(hex::encode(&root(&hashes[..2])), two);
        let three = "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77";
        assert_eq!(hex::encode(&root(&hashes)), three);
    }

    #[test]
    fn every_leaf_of_every_size_is_proven() {
        for size in 1..40 {
            let leaves = leaves(size);
            for index in 0..size {
                let path = path(&leaves, index);
                let found = root_of_path(leaves[index], index as u64, size as u64, &path);
                assert_eq!(found, Some(root(&leaves)), "leaf {index} of {size}");
            }
        }
    }

    #[test]
    fn a_proof_fits_nothing_else() {
        let leaves = leaves(11);
        let path = path(&leaves, 4);
        let right = Some(root(&leaves));
        for index in (0..11).filter(|index| *index != 4) {
            assert_ne!(root_of_path(leaves[4], index, 11, &path), right);
        }
        assert_ne!(root_of_path(leaves[5], 4, 11, &path), right);
        assert_eq!(root_of_path(leaves[4], 11, 11, &path), None);
        assert_eq!(root_of_path(leaves[4], 4, 11, &path[1..]), None);
        let longer = [path.clone(), vec![[0; 32]]].concat();
        assert_eq!(root_of_path(leaves[4], 4, 11, &longer), None);
        for place in 0..path.len() {
            let mut changed = path.clone();
            changed[place][31] ^= 1;
            assert_ne!(root_of_path(leaves[4], 4, 11, &changed), right);
        }
    }
}
