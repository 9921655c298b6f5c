//! Why an export does not hold: one sentence, with the line and, where the chain allows, the number
//! of the first event that is not as it was.

use std::io;

use super::line::BrokenOff;
use crate::chain::BrokenChain;
use crate::tree::ProofError;

/// An export that proves nothing, or disproves.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct VerifyError {
    /// The line, from 1.
    pub line: u64,
    /// The first bad event: the changed or missing one; where a checkpoint fails, the first that only
    /// it covers; where a line cannot be read, the one that should come next. `None` if the file says
    /// nothing of events.
    pub seq: Option<i64>,
    /// What is wrong.
    pub problem: Problem,
}

/// See [`VerifyError`].
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The reader failed.
    #[error("the file cannot be read: {0}")]
    Read(io::Error),
    /// No manifest in the first line.
    #[error("this is not an export of Bulkhead's audit log")]
    NotAnExport,
    /// A format of another time.
    #[error("the export has the format's version {found}; this verifier knows version {known}")]
    UnknownVersion {
        /// That of the file.
        found: u32,
        /// That of this verifier.
        known: u32,
    },
    /// The manifest contradicts itself.
    #[error("the manifest does not fit: {0}")]
    Manifest(&'static str),
    /// A line beyond any bound.
    #[error("the line is longer than any line of an export")]
    LineTooLong,
    /// Not a line of an export.
    #[error("this is no line of an export: {0}")]
    Malformed(String),
    /// Well-formed, but written differently than an export is: it was changed on the way.
    #[error("the line is not written as an export writes it: it was changed")]
    NotCanonical,
    /// A second manifest, or something after the end.
    #[error("this line should not be here")]
    Misplaced,
    /// The chain breaks.
    #[error(transparent)]
    Chain(#[from] BrokenChain),
    /// A checkpoint that is not signed or proves another state.
    #[error("the checkpoint at event {size} does not hold: {why}")]
    Checkpoint {
        /// The first event that only this one would have covered.
        from: i64,
        /// How far it covers.
        size: i64,
        /// What is wrong with it.
        why: ProofError,
    },
    /// A checkpoint of another chain.
    #[error("the checkpoint is of another chain")]
    OtherChain,
    /// A valid checkpoint contradicts the events before it.
    #[error(
        "a signed checkpoint contradicts the events {from} to {size}: at least one of them was \
         replaced, and all hashes after it were written anew"
    )]
    Contradiction {
        /// The first event that no earlier checkpoint covers.
        from: i64,
        /// How far the checkpoint covers.
        size: i64,
    },
    /// A valid checkpoint does not stand after its event.
    #[error(
        "a signed checkpoint covers the events up to {size}, but it stands after event {after}"
    )]
    CheckpointPlace {
        /// How far the checkpoint covers.
        size: i64,
        /// After which event it stands.
        after: i64,
    },
    /// Checkpoints that contradict each other.
    #[error("the checkpoints do not follow one another: {0}")]
    CheckpointOrder(&'static str),
    /// Events that the manifest promises.
    #[error("the events {from} to {to} are missing")]
    Missing {
        /// The first.
        from: i64,
        /// The last.
        to: i64,
    },
    /// Events that no checkpoint covers.
    #[error(
        "no signed checkpoint covers the events from {from} to {to}: the end may have been cut off"
    )]
    Unsealed {
        /// The first.
        from: i64,
        /// The last.
        to: i64,
    },
    /// The file stops before its end line.
    #[error("the file ends after event {after}, before its end line: the download was cut off")]
    CutOff {
        /// The last event that is there.
        after: i64,
    },
    /// The server could not go on, and said why.
    #[error("the server broke the export off after event {after}: {why}")]
    BrokenOff {
        /// The last event that is there.
        after: i64,
        /// What it said.
        why: BrokenOff,
    },
    /// The end line is not over these lines.
    #[error("the end line does not fit the lines before it: one was changed, lost or added")]
    WrongEnd,
    /// A kept checkpoint that is none.
    #[error("the checkpoint that you kept does not hold: {0}")]
    Kept(ProofError),
    /// A kept checkpoint of another chain.
    #[error("the checkpoint that you kept is of another chain, {chain}")]
    KeptOtherChain {
        /// The chain.
        chain: String,
    },
    /// A kept checkpoint that covers more than the file has.
    #[error(
        "the export ends with event {to}, and the checkpoint that you kept covers {size} events: the \
         end was cut off, or an old backup was restored"
    )]
    KeptIsAhead {
        /// How far the kept checkpoint covers.
        size: i64,
        /// The last event of the export.
        to: i64,
    },
    /// A kept checkpoint that the file cannot be compared with.
    #[error("the checkpoint that you kept ends with event {size}: ask for an export from there on")]
    KeptIsBefore {
        /// How far the kept checkpoint covers.
        size: i64,
    },
    /// The history before the kept checkpoint is another one now.
    #[error(
        "the events {from} to {size} are not those of the checkpoint that you kept: at least one of \
         them was replaced since, or an old backup was restored and written on"
    )]
    KeptContradiction {
        /// The first event that no earlier kept checkpoint covers.
        from: i64,
        /// How far the kept checkpoint covers.
        size: i64,
    },
    /// Two checkpoints of one number.
    #[error(
        "checkpoint {number} of the export is not the one that you kept: there are two histories"
    )]
    KeptFork {
        /// The number.
        number: i64,
    },
    /// Nothing to compare.
    #[error(
        "none of the export's checkpoints is in the file that you kept: take one to which the control \
         plane went on writing until after the export"
    )]
    KeptNoneShared,
}

impl Problem {
    /// The event that it is about, if it says more than where in the file it was noticed.
    pub(super) fn seq(&self) -> Option<i64> {
        match self {
            Self::Chain(broken) => Some(broken.seq()),
            Self::Missing { from, .. }
            | Self::Unsealed { from, .. }
            | Self::Checkpoint { from, .. }
            | Self::Contradiction { from, .. }
            | Self::KeptContradiction { from, .. } => Some(*from),
            _ => None,
        }
    }
}
