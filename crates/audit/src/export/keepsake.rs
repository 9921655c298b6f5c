//! Reads what an auditor kept from earlier: checkpoint lines of exports, with their proofs, or the
//! file outside the database to which a control plane appends every checkpoint, as it is.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::Deserialize;

use super::line::{CheckpointLine, Line};
use super::reader::{LineReader, ReadError};
use crate::{ChainProof, Checkpoint, Hash};

/// Most proofs that are read from one file.
const MAX_PROOFS: usize = 10_000;
/// Most checkpoints of a control plane's file: one a minute for nineteen years.
const MAX_TEXTS: usize = 10_000_000;

/// Checkpoints that were kept.
#[derive(Debug, Clone, Default)]
pub struct Keepsake {
    /// Of the chain, with what proves how long it was.
    pub proofs: Vec<ChainProof>,
    /// Of all chains, by their numbers: the digests of their texts.
    pub texts: BTreeMap<i64, Hash>,
}

/// A file of kept checkpoints cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is no checkpoint, or does not follow the one before it")]
pub struct KeptError {
    /// The line, from 1.
    pub line: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    number: i64,
    note: String,
}

/// Reads a file of kept checkpoints of either kind. Signatures are looked at later.
///
/// # Errors
/// When a line is no checkpoint, one of a control plane's file is missing, or there are too many or
/// none.
pub fn read_kept(source: impl BufRead) -> Result<Keepsake, KeptError> {
    let mut reader = LineReader::new(source);
    let mut scratch = Vec::new();
    let mut kept = Keepsake::default();
    loop {
        match reader.advance() {
            Ok(true) => {}
            Ok(false) => break,
            // What a crash left of a line is none.
            Err(ReadError::CutOff) if !kept.texts.is_empty() => return Ok(kept),
            Err(_) => return Err(KeptError { line: reader.number() }),
        }
        if let Ok(Line::Checkpoint(CheckpointLine { checkpoint })) =
            Line::parse(reader.line(), &mut scratch)
            && kept.proofs.len() < MAX_PROOFS
        {
            kept.proofs.push(checkpoint);
        } else if let Some(checkpoint) = read_entry(reader.line())
            && kept.texts.len() < MAX_TEXTS
            && follows(&kept.texts, &checkpoint)
        {
            kept.texts.insert(checkpoint.number, checkpoint.digest());
        } else if kept.texts.is_empty() || serde_json::from_slice::<Entry>(reader.line()).is_ok() {
            return Err(KeptError { line: reader.number() });
        }
    }
    match kept.proofs.is_empty() && kept.texts.is_empty() {
        false => Ok(kept),
        true => Err(KeptError { line: reader.number() }),
    }
}

/// Reads a file of kept checkpoints: lines as an export has them, nothing else.
///
/// # Errors
/// When a line is no checkpoint, or there are too many or none.
pub fn read_checkpoints(source: impl BufRead) -> Result<Vec<ChainProof>, KeptError> {
    let kept = read_kept(source)?;
    if kept.texts.is_empty() { Ok(kept.proofs) } else { Err(KeptError { line: 1 }) }
}

fn read_entry(line: &[u8]) -> Option<Checkpoint> {
    let Entry { number, note } = serde_json::from_slice(line).ok()?;
    let end = note.find("\n\n")?;
    Checkpoint::parse(note.get(..=end)?).filter(|checkpoint| checkpoint.number == number)
}

/// Whether it comes directly after the last one: none in between was taken away.
fn follows(texts: &BTreeMap<i64, Hash>, checkpoint: &Checkpoint) -> bool {
    texts.last_key_value().is_none_or(|(number, digest)| {
        checkpoint.number == number + 1 && checkpoint.previous == *digest
    })
}
