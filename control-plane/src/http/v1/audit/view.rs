//! An audit event as callers see it.

use audit::{Decision, Detail, Hash, Sandbox};
use protocol::grant::hex;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::store::AuditRecord;

/// See the module. Where the detail was erased, what was in it is null.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEvent)]
pub struct View {
    pub(super) seq: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) time: OffsetDateTime,
    pub(super) role: String,
    pub(super) actor: Option<String>,
    pub(super) token_id: Option<String>,
    pub(super) address: Option<String>,
    pub(super) action: String,
    pub(super) object: String,
    pub(super) session_id: Option<String>,
    pub(super) exec_id: Option<String>,
    pub(super) outcome: String,
    pub(super) decision: Option<Decision>,
    pub(super) reasons: Vec<String>,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) stdout_sha256: Option<String>,
    pub(super) stderr_sha256: Option<String>,
    pub(super) detail: Value,
    pub(super) erased: bool,
    pub(super) detail_sha256: String,
    pub(super) hash: String,
}

impl From<AuditRecord> for View {
    fn from(AuditRecord { event, hash }: AuditRecord) -> Self {
        let erased = event.detail.is_none();
        let shown = |digest: Option<Hash>| digest.map(|digest| hex(&digest));
        let detail = event.detail.unwrap_or_else(nothing);
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(event.time_us) * 1000);
        Self {
            seq: event.seq,
            time: time.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            role: event.role,
            actor: (!erased).then_some(detail.actor),
            token_id: event.token_id,
            address: detail.address,
            action: event.action,
            object: event.object,
            session_id: event.session_id,
            exec_id: event.exec_id,
            outcome: event.outcome,
            decision: event.decision,
            reasons: detail.reasons,
            sandbox: event.sandbox,
            stdout_sha256: shown(detail.stdout_sha256),
            stderr_sha256: shown(detail.stderr_sha256),
            detail: serde_json::from_str(&detail.data).unwrap_or(Value::Null),
            erased,
            detail_sha256: hex(&event.detail_sha256),
            hash: hex(&hash),
        }
    }
}

fn nothing() -> Detail {
    Detail {
        salt: [0; 16],
        actor: String::new(),
        address: None,
        reasons: Vec::new(),
        stdout_sha256: None,
        stderr_sha256: None,
        data: String::new(),
    }
}
