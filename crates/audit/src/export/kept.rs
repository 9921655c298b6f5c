//! Compares an export with checkpoints that an auditor kept from earlier. This is what shows a
//! restored backup, a cut end, and a history that the operator wrote and signed anew.

use std::io::BufRead;

use super::error::Problem;
use super::line::{CheckpointLine, Line};
use super::reader::LineReader;
use crate::{ChainProof, Checkpoint, Hash, KeyRing};

/// Kept checkpoints of the chain, in the order of their sizes.
pub(super) struct Kept(Vec<(ChainProof, Checkpoint)>);

impl Kept {
    /// Verifies the kept ones themselves, and that the export from `first` on can be compared.
    pub(super) fn new(
        kept: &[ChainProof],
        keys: &KeyRing,
        chain: &str,
        first: i64,
    ) -> Result<Self, Problem> {
        let mut verified = Vec::with_capacity(kept.len());
        for proof in kept {
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
        Ok(Self(verified))
    }

    /// Compares with the event `seq`, whose hash is `head`.
    pub(super) fn event(&self, seq: i64, head: &Hash) -> Result<(), Problem> {
        let first = self.0.partition_point(|(proof, _)| proof.size < seq);
        let (before, rest) = self.0.split_at(first);
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
    pub(super) fn checkpoint(&self, found: &Checkpoint) -> Result<(), Problem> {
        let fork = |(_, kept): &(_, Checkpoint)| kept.number == found.number && kept != found;
        match self.0.iter().any(fork) {
            true => Err(Problem::KeptFork { number: found.number }),
            false => Ok(()),
        }
    }

    /// Compares with the export's last event.
    pub(super) fn end(&self, to: i64) -> Result<(), Problem> {
        match self.0.last() {
            Some((proof, _)) if proof.size > to => {
                Err(Problem::KeptIsAhead { size: proof.size, to })
            }
            _ => Ok(()),
        }
    }
}

/// A file of kept checkpoints cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is no checkpoint of an export")]
pub struct KeptError {
    /// The line, from 1.
    pub line: u64,
}

/// Most checkpoints that are read from one file.
const MAX_KEPT: usize = 10_000;

/// Reads a file of kept checkpoints: lines as an export has them, nothing else.
///
/// # Errors
/// When a line is no checkpoint, or there are too many or none.
pub fn read_checkpoints(source: impl BufRead) -> Result<Vec<ChainProof>, KeptError> {
    let mut reader = LineReader::new(source);
    let mut scratch = Vec::new();
    let mut kept = Vec::new();
    while let Ok(true) = reader.advance() {
        match Line::parse(reader.line(), &mut scratch) {
            Ok(Line::Checkpoint(CheckpointLine { checkpoint })) if kept.len() < MAX_KEPT => {
                kept.push(checkpoint);
            }
            _ => return Err(KeptError { line: reader.number() }),
        }
    }
    // The loop also ends at a line that is cut off, and at once in an empty file.
    match reader.line().is_empty() && !kept.is_empty() {
        true => Ok(kept),
        false => Err(KeptError { line: reader.number() }),
    }
}
