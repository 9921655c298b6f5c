//! The part of an event that can be erased: whatever is content, or says something about content
//! or a person. The event's hash covers only this part's digest.
//!
//! The digest is salted: without the salt, which goes with the detail, nobody can find out by trying
//! which short command or address it was.

use serde::{Deserialize, Serialize};

use crate::encoding::{Encoder, sha256};
use crate::{Hash, hex};

/// Random bytes that make a digest unguessable.
pub type Salt = [u8; 16];

/// What retention and erasure remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// Fresh and random for every event.
    #[serde(with = "hex::one")]
    pub salt: Salt,
    /// Who did it: a token's name and role, or a part of Bulkhead.
    pub actor: String,
    /// Network address of the caller, if there was one.
    pub address: Option<String>,
    /// Why it was decided so. A reason may quote the command.
    pub reasons: Vec<String>,
    /// SHA-256 of everything written to standard output, where an exec ended. Not salted, since it
    /// is there to be compared; it would betray a short output, and so it is erased with the rest.
    #[serde(with = "hex::optional")]
    pub stdout_sha256: Option<Hash>,
    /// The same for standard error.
    #[serde(with = "hex::optional")]
    pub stderr_sha256: Option<Hash>,
    /// Everything else, such as the command, as JSON text. Hashed as it stands, never parsed and
    /// written again.
    pub data: String,
}

impl Detail {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::tagged("bulkhead-audit-detail-v2");
        encoder.bytes(&self.salt);
        encoder.text(&self.actor);
        encoder.optional_text(self.address.as_ref());
        encoder.texts(&self.reasons);
        for digest in [&self.stdout_sha256, &self.stderr_sha256] {
            encoder.optional(digest.as_ref(), |encoder, digest| encoder.bytes(digest));
        }
        encoder.text(&self.data);
        encoder.into_bytes()
    }

    /// What the event's hash covers in place of the detail.
    pub fn digest(&self) -> Hash {
        sha256(&self.encode())
    }
}
