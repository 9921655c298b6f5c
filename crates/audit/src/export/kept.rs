//! Compares an export with checkpoints that an auditor kept from earlier. This is what shows a
//! restored backup, a cut end, and a history that the operator wrote and signed anew.

use std::collections::BTreeMap;

use super::error::Problem;
use super::keepsake::Keepsake;
use crate::{ChainProof, Checkpoint, Hash, KeyRing};

/// What was kept, verified as far as it can be without the export.
pub(super) struct Kept<'a> {
    /// Of the chain, in the order of their sizes.
    proven: Vec<(ChainProof, Checkpoint)>,
    /// Of all chains.
    texts: &'a BTreeMap<i64, Hash>,
    /// How many of these the export has, too.
    shared: u64,
}

impl<'a> Kept<'a> {
    /// Verifies the kept ones themselves, and that the export from `first` on can be compared.
    pub(super) fn new(
        kept: &'a Keepsake,
        keys: &KeyRing,
        chain: &str,
        first: i64,
    ) -> Result<Self, Problem> {
        let mut verified = Vec::with_capacity(kept.proofs.len());
        for proof in &kept.proofs {
            if proof.chain != chain {
                return Err(Problem::KeptOtherChain { chain: proof.chain.clone() });
            }
            let checkpoint = proof.verify(keys).map_err(Problem::Kept)?;
            if proof.size < first.saturating_sub(1) {
                return Err(Problem::KeptIsBefore { size: proof.size });
            }
            verified.push((proof.clone(), checkpoint));
        }
        verified.sort_by_key(|(proof, _)| proof.size);
        Ok(Self { proven: verified, texts: &kept.texts, shared: 0 })
    }

    /// Compares with the event `seq`, whose hash is `head`.
    pub(super) fn event(&self, seq: i64, head: &Hash) -> Result<(), Problem> {
        let first = self.proven.partition_point(|(proof, _)| proof.size < seq);
        let (before, rest) = self.proven.split_at(first);
        let mut same = rest.iter().take_while(|(proof, _)| proof.size == seq);
        match same.any(|(proof, _)| proof.head != *head) {
            true => {
                let from = before.last().map_or(1, |(proof, _)| proof.size + 1);
                Err(Problem::KeptContradiction { from, size: seq })
            }
            false => Ok(()),
        }
    }

    /// Compares with a checkpoint of the export.
    pub(super) fn checkpoint(&mut self, found: &Checkpoint) -> Result<(), Problem> {
        if let Some(text) = self.texts.get(&found.number) {
            if *text != found.digest() {
                return Err(Problem::KeptFork { number: found.number });
            }
            self.shared += 1;
        }
        let fork = |(_, kept): &(_, Checkpoint)| kept.number == found.number && kept != found;
        match self.proven.iter().any(fork) {
            true => Err(Problem::KeptFork { number: found.number }),
            false => Ok(()),
        }
    }

    /// Compares with the export's last event.
    pub(super) fn end(&self, to: i64) -> Result<(), Problem> {
        match self.proven.last() {
            Some((proof, _)) if proof.size > to => {
                Err(Problem::KeptIsAhead { size: proof.size, to })
            }
            _ if self.shared == 0 && !self.texts.is_empty() => Err(Problem::KeptNoneShared),
            _ => Ok(()),
        }
    }
}
