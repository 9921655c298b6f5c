//! The audit log as bytes: events, the hash chain over them, signed checkpoints, exports, and the
//! check of all of it. Described in docs/audit.md well enough to write another one.
//!
//! Pure, and shared by the server that appends and the verifier that trusts nobody. Stores nothing,
//! reads no clock and draws no random number.

mod chain;
mod checkpoint;
mod detail;
mod encoding;
mod event;
pub mod export;
#[cfg(test)]
mod fixtures;
pub mod hex;
mod keys;
mod merkle;
mod note;
mod tree;

pub use chain::{BrokenChain, ChainChecker, GENESIS};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use detail::{Detail, Salt};
pub use event::{Decision, Event, Pieces, Sandbox, VERSION};
pub use keys::{KeyError, KeyRing, Signer, VerifierKey};
pub use note::NoteError;
pub use tree::{ChainProof, Leaf, ProofError, Tree};

/// SHA-256 of an event and of all events before it.
pub type Hash = [u8; 32];
