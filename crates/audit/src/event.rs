//! One audit event and its hash, version 2.
//!
//! What stands here directly stays for ever: ids, names from Bulkhead's own vocabulary, numbers.
//! What may have to be erased stands in [`Detail`].

use serde::{Deserialize, Serialize};

use crate::encoding::{Encoder, sha256};
use crate::{Detail, Hash, hex};

/// The version of the encoding and of exports.
pub const VERSION: u32 = 2;

/// One thing that happened, as reviewers will read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The chain: a tenant's id, or `system`.
    pub chain: String,
    /// Position in the chain, from 1, without gaps.
    pub seq: i64,
    /// Microseconds since the epoch, by the database's clock. Order comes from `seq` alone.
    pub time_us: i64,
    /// In which role it was done: that of a token, or a part of Bulkhead such as `worker`.
    pub role: String,
    /// The token used, if one was.
    pub token_id: Option<String>,
    /// What was done, such as `exec.authorize`.
    pub action: String,
    /// What it was done to, such as an exec's id.
    pub object: String,
    /// The session that it belongs to, if any.
    pub session_id: Option<String>,
    /// The exec that it belongs to, if any.
    pub exec_id: Option<String>,
    /// How it went, such as `ok`, `denied`, `exited`.
    pub outcome: String,
    /// What was decided, where something was.
    pub decision: Option<Decision>,
    /// Where it ran, where something did.
    pub sandbox: Option<Sandbox>,
    /// [`Detail::digest`]; stays when the detail is erased.
    #[serde(with = "hex::one")]
    pub detail_sha256: Hash,
    /// The rest; `None` once it was erased.
    pub detail: Option<Detail>,
}

/// What policy or a human decided. The reasons are in [`Detail`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AuditDecision))]
pub struct Decision {
    /// `allow`, `ask` or `deny`.
    pub outcome: String,
    /// Ids of the rules that led to it.
    pub rules: Vec<String>,
    /// The version of the policy that was asked.
    pub policy_version: Option<i64>,
    /// The token of the human who decided, if one did.
    pub approver: Option<String>,
}

/// The sandbox of an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AuditSandbox))]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// Changes when its files were lost.
    pub generation: i64,
    /// Digest of the image that it was made from, if known.
    pub image_digest: Option<String>,
}

/// See [`Event::pieces`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// What comes before the bytes of the previous hash.
    pub before_previous: Vec<u8>,
    /// The field of the chain's name, which follows them; then come number and time.
    pub chain: Vec<u8>,
    /// What follows those.
    pub rest: Vec<u8>,
}

impl Event {
    /// The canonical bytes on top of the hash `previous` of the event before it.
    pub fn encode(&self, previous: &Hash) -> Vec<u8> {
        let Pieces { before_previous, chain, rest } = self.pieces();
        let mut encoder = Encoder::default();
        encoder.number(self.seq);
        encoder.number(self.time_us);
        let numbers = encoder.into_bytes();
        [&before_previous[..], previous, &chain, &numbers, &rest].concat()
    }

    /// The canonical bytes without the hash before, the number and the time, which whoever holds
    /// the chain's head puts between them.
    pub fn pieces(&self) -> Pieces {
        let mut encoder = Encoder::tagged("bulkhead-audit-v2");
        encoder.length(size_of::<Hash>());
        let before_previous = encoder.into_bytes();
        let mut encoder = Encoder::default();
        encoder.text(&self.chain);
        let chain = encoder.into_bytes();
        let mut encoder = Encoder::default();
        encoder.text(&self.role);
        encoder.optional_text(self.token_id.as_ref());
        encoder.text(&self.action);
        encoder.text(&self.object);
        encoder.optional_text(self.session_id.as_ref());
        encoder.optional_text(self.exec_id.as_ref());
        encoder.text(&self.outcome);
        encoder.optional(self.decision.as_ref(), |encoder, it| encoder.record(|to| it.encode(to)));
        encoder.optional(self.sandbox.as_ref(), |encoder, it| encoder.record(|to| it.encode(to)));
        encoder.bytes(&self.detail_sha256);
        Pieces { before_previous, chain, rest: encoder.into_bytes() }
    }

    /// The hash on top of the hash `previous` of the event before it.
    pub fn hash(&self, previous: &Hash) -> Hash {
        sha256(&self.encode(previous))
    }
}

impl Decision {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.text(&self.outcome);
        encoder.texts(&self.rules);
        encoder.optional(self.policy_version, Encoder::number);
        encoder.optional_text(self.approver.as_ref());
    }
}

impl Sandbox {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.text(&self.id);
        encoder.number(self.generation);
        encoder.optional_text(self.image_digest.as_ref());
    }
}
