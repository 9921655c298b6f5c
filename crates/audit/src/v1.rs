//! Version 1 of the encoding: what the server writes until its tables have the columns of version 2.
//!
//! The encoding is the domain tag `bulkhead-audit-v1`, then every field in the order of [`Event`],
//! each as its length (u64, little endian) and its bytes; numbers are 8 bytes, little endian; an
//! absent text has the length `u64::MAX` and no bytes. It is injective: no two events share bytes.

use sha2::{Digest, Sha256};

use crate::Hash;

/// One thing that happened, as reviewers will read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The chain: a tenant's id, or `system`.
    pub chain: String,
    /// Position in the chain, from 1, without gaps.
    pub seq: i64,
    /// Microseconds since the epoch, by the database's clock. Order comes from `seq` alone.
    pub time_us: i64,
    /// Who did it: a token's name and role, or a part of Bulkhead.
    pub actor: String,
    /// The token used, if one was.
    pub token_id: Option<String>,
    /// Network address of the caller, if there was one.
    pub address: Option<String>,
    /// What was done, such as `exec.authorize`.
    pub action: String,
    /// What it was done to, such as an exec's id.
    pub object: String,
    /// The session that it belongs to, if any.
    pub session_id: Option<String>,
    /// How it went, such as `allow`, `denied`, `exited`.
    pub outcome: String,
    /// Everything else, as JSON text. Hashed as it stands, never parsed and written again.
    pub detail: String,
}

/// The hash of `event` on top of the hash `previous` of the event before it.
pub fn hash(previous: &Hash, event: &Event) -> Hash {
    let mut encoder = Encoder(Sha256::new());
    encoder.field(b"bulkhead-audit-v1");
    encoder.field(previous);
    encoder.field(event.chain.as_bytes());
    encoder.field(&event.seq.to_le_bytes());
    encoder.field(&event.time_us.to_le_bytes());
    encoder.field(event.actor.as_bytes());
    encoder.optional(event.token_id.as_deref());
    encoder.optional(event.address.as_deref());
    encoder.field(event.action.as_bytes());
    encoder.field(event.object.as_bytes());
    encoder.optional(event.session_id.as_deref());
    encoder.field(event.outcome.as_bytes());
    encoder.field(event.detail.as_bytes());
    encoder.0.finalize().into()
}

struct Encoder(Sha256);

impl Encoder {
    fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.field(text.as_bytes()),
            None => self.0.update(u64::MAX.to_le_bytes()),
        }
    }
}
