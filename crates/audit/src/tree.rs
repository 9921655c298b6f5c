//! The tree under a checkpoint: one leaf per chain, and the proof that a chain is in it, which shows
//! its reader nothing about other chains except how many there are.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::encoding::Encoder;
use crate::keys::KeyRing;
use crate::{Hash, hex, merkle};

/// What one chain was: how long, and the hash of its last event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The chain.
    pub chain: String,
    /// Number of its last event.
    pub size: i64,
    /// Hash of its last event.
    pub head: Hash,
}

impl Leaf {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::tagged("bulkhead-audit-leaf-v2");
        encoder.text(&self.chain);
        encoder.number(self.size);
        encoder.bytes(&self.head);
        encoder.into_bytes()
    }

    fn hash(&self) -> Hash {
        merkle::leaf_hash(&self.encode())
    }
}

/// All chains at one moment, in the order of their names.
#[derive(Debug)]
pub struct Tree {
    leaves: Vec<Leaf>,
    hashes: Vec<Hash>,
}

impl Tree {
    /// Over `leaves`, in any order. A chain that is given twice counts once.
    pub fn new(mut leaves: Vec<Leaf>) -> Self {
        leaves.sort_by(|one, other| one.chain.cmp(&other.chain));
        leaves.dedup_by(|one, other| one.chain == other.chain);
        let hashes = leaves.iter().map(Leaf::hash).collect();
        Self { leaves, hashes }
    }

    /// How many chains there are.
    pub fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// The root, for [`Checkpoint::root`].
    pub fn root(&self) -> Hash {
        merkle::root(&self.hashes)
    }

    /// Proves that `chain` is in the checkpoint `note` over this tree.
    pub fn prove(&self, chain: &str, note: &str) -> Option<ChainProof> {
        let index = self.leaves.binary_search_by(|leaf| leaf.chain.as_str().cmp(chain)).ok()?;
        let Leaf { chain, size, head } = self.leaves[index].clone();
        let path = merkle::path(&self.hashes, index);
        Some(ChainProof { chain, size, head, index: index as u64, path, note: note.to_owned() })
    }
}

/// A checkpoint as a tenant gets it: the signed note, and the proof that its chain is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChainProof {
    /// The chain.
    pub chain: String,
    /// Number of its last event at that moment.
    pub size: i64,
    /// Hash of that event.
    #[serde(with = "hex::one")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub head: Hash,
    /// Position of the chain's leaf.
    pub index: u64,
    /// The hashes that lead from the leaf to the root, from below.
    #[serde(with = "hex::list")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub path: Vec<Hash>,
    /// The signed note of the [`Checkpoint`].
    pub note: String,
}

/// A proof that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The checkpoint itself.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The chain was not that, or the proof was changed.
    #[error("the signed root does not contain this state of the chain")]
    NotIncluded,
}

impl ChainProof {
    /// The checkpoint, once it is sure that it is signed and has this chain in this state.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, keys: &KeyRing) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::open(&self.note, keys)?;
        let leaf = Leaf { chain: self.chain.clone(), size: self.size, head: self.head };
        let root = merkle::root_of_path(leaf.hash(), self.index, checkpoint.chains, &self.path);
        if root != Some(checkpoint.root) {
            return Err(ProofError::NotIncluded);
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Signer;

    fn leaf(chain: &str) -> Leaf {
        Leaf { chain: chain.into(), size: 5, head: [9; 32] }
    }

    fn proof() -> (ChainProof, KeyRing) {
        let tree = Tree::new(["system", "ten_b", "ten_a", "ten_b"].map(leaf).to_vec());
        let checkpoint = Checkpoint {
            origin: "example.com/audit".into(),
            chains: tree.size(),
            root: tree.root(),
            number: 1,
            time_us: 5,
            previous: [0; 32],
        };
        let signer = Signer::new("example.com/audit", &[1; 32]).expect("name");
        let note = checkpoint.sign(&[&signer]).expect("signs");
        (tree.prove("ten_a", &note).expect("in it"), signer.public().clone().into())
    }

    #[test]
    fn a_chain_is_proven_to_be_in_the_checkpoint() {
        let (proof, keys) = proof();
        let checkpoint = proof.verify(&keys).expect("holds");
        assert_eq!((checkpoint.chains, proof.index), (3, 1));
    }

    #[test]
    fn another_state_of_the_chain_is_not() {
        let changes: [fn(&mut ChainProof); 6] = [
            |p| p.chain = "ten_b".into(),
            |p| p.size -= 1,
            |p| p.head[0] ^= 1,
            |p| p.index = 2,
            |p| p.path.swap(0, 1),
            |p| p.path.clear(),
        ];
        for change in changes {
            let (mut proof, keys) = proof();
            change(&mut proof);
            assert_eq!(proof.verify(&keys), Err(ProofError::NotIncluded));
        }
    }

    #[test]
    fn a_chain_that_is_not_there_has_no_proof() {
        assert!(Tree::new(vec![leaf("ten_a")]).prove("ten_b", "").is_none());
        assert!(Tree::new(Vec::new()).prove("ten_b", "").is_none());
    }
}
