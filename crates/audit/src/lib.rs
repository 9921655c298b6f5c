//! The audit chain: canonical bytes of an event, the hash over them, and the check of a chain.
//!
//! Pure, and shared by the server that appends and the verifier that trusts nobody. Stores nothing.

mod chain;
mod event;

pub use chain::{BrokenChain, ChainChecker, GENESIS};
pub use event::{Event, Hash, hash};
