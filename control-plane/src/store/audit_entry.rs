//! What use cases and activities write down. What of it may be erased later is the store's matter.

use domain::ids::{ExecId, SessionId, TokenId};
use domain::sandbox::SandboxRef;
use serde_json::Value;

/// What to write down.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Who did it.
    pub actor: String,
    /// In which role: a token's, or a part of Bulkhead.
    pub role: &'static str,
    /// The token used, if one was.
    pub token_id: Option<TokenId>,
    /// Network address of the caller, if there was one.
    pub address: Option<String>,
    /// What was done.
    pub action: &'static str,
    /// What it was done to.
    pub object: String,
    /// The session that it belongs to, if any.
    pub session_id: Option<SessionId>,
    /// The exec that it belongs to; if left out and the object is one, that one.
    pub exec_id: Option<ExecId>,
    /// How it went.
    pub outcome: &'static str,
    /// What was decided and where it ran, as far as it was and did.
    pub evidence: Evidence,
    /// Everything else.
    pub detail: Value,
}

/// What an audit event says about a decision and its execution.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The decision.
    pub decision: Option<audit::Decision>,
    /// Its reasons.
    pub reasons: Vec<String>,
    /// Names of the programs in question.
    pub programs: Vec<String>,
    /// Where it ran.
    pub sandbox: Option<SandboxRef>,
    /// The image that the sandbox was made from.
    pub image_digest: Option<String>,
    /// SHA-256 of everything on standard output, in hex.
    pub stdout_sha256: Option<String>,
    /// The same of standard error.
    pub stderr_sha256: Option<String>,
}

impl AuditEntry {
    /// Something that a part of Bulkhead did, such as `worker`, without anything else to say.
    pub fn by_part(part: &'static str, action: &'static str, object: impl ToString) -> Self {
        Self {
            actor: part.into(),
            role: part,
            token_id: None,
            address: None,
            action,
            object: object.to_string(),
            session_id: None,
            exec_id: None,
            outcome: "ok",
            evidence: Evidence::default(),
            detail: serde_json::json!({}),
        }
    }
}
