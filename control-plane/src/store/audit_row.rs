//! One stored audit event. A row that nothing of ours would have written is not read: what stands
//! beside a missing value, a digest that is too short, a list in another shape. The hash covers what
//! is read; this covers everything else.

use std::collections::BTreeSet;

use audit::{Decision, Detail, Event, Hash, Sandbox};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};

use super::{StoreError, audit_terms};

pub(super) const COLUMNS: &str = "e.chain, e.seq, e.time_us, e.role, e.token_id, e.action, e.object, \
    e.session_id, e.exec_id, e.outcome, e.decision, e.rules, e.policy_version, e.approver, \
    e.sandbox_id, e.sandbox_generation, e.image_digest, e.detail_sha256, e.salt, e.actor, \
    e.address, e.reasons, e.stdout_sha256, e.stderr_sha256, e.data, e.hash, e.programs";

/// An event, and the hash that was stored with it.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// The event.
    pub event: Event,
    /// Its hash.
    pub hash: Hash,
}

/// A row, whether it can be read or not.
pub(super) struct Row {
    pub(super) seq: i64,
    record: Option<AuditRecord>,
}

impl Row {
    /// What was written.
    ///
    /// # Errors
    /// [`StoreError::AuditEvent`] when it is something else by now.
    pub(super) fn into_record(self) -> Result<AuditRecord, StoreError> {
        self.record.ok_or(StoreError::AuditEvent(self.seq))
    }

    /// Everything that finds the event; `None` if it cannot be read.
    pub(super) fn terms(&self) -> Option<BTreeSet<String>> {
        self.record.as_ref().map(|record| audit_terms::of_event(&record.event))
    }
}

impl FromRow<'_, PgRow> for Row {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { seq: row.try_get("seq")?, record: Stored::from_row(row).ok().and_then(read) })
    }
}

#[derive(FromRow)]
struct Stored {
    chain: String,
    seq: i64,
    time_us: i64,
    role: String,
    token_id: Option<String>,
    action: String,
    object: String,
    session_id: Option<String>,
    exec_id: Option<String>,
    outcome: String,
    decision: Option<String>,
    rules: Option<Vec<String>>,
    policy_version: Option<i64>,
    approver: Option<String>,
    sandbox_id: Option<String>,
    sandbox_generation: Option<i64>,
    image_digest: Option<String>,
    detail_sha256: Vec<u8>,
    salt: Option<Vec<u8>>,
    actor: Option<String>,
    address: Option<String>,
    reasons: Option<Vec<String>>,
    stdout_sha256: Option<Vec<u8>>,
    stderr_sha256: Option<Vec<u8>>,
    data: Option<String>,
    hash: Vec<u8>,
    programs: Option<Vec<String>>,
}

/// What a row says; `None` if it is not whole or says more than an event can.
fn read(row: Stored) -> Option<AuditRecord> {
    let decision = match (row.decision, row.rules) {
        (Some(outcome), Some(rules)) => {
            let (policy_version, approver) = (row.policy_version, row.approver);
            Some(Decision { outcome, rules, policy_version, approver })
        }
        (None, None) if row.policy_version.is_none() && row.approver.is_none() => None,
        _ => return None,
    };
    let sandbox = match (row.sandbox_id, row.sandbox_generation) {
        (Some(id), Some(generation)) => {
            Some(Sandbox { id, generation, image_digest: row.image_digest })
        }
        (None, None) if row.image_digest.is_none() => None,
        _ => return None,
    };
    let stdout_sha256 = optional_bytes(row.stdout_sha256)?;
    let stderr_sha256 = optional_bytes(row.stderr_sha256)?;
    let detail = match (row.salt, row.actor, row.reasons, row.data) {
        (Some(salt), Some(actor), Some(reasons), Some(data)) => {
            let (salt, address) = (salt.try_into().ok()?, row.address);
            Some(Detail { salt, actor, address, reasons, stdout_sha256, stderr_sha256, data })
        }
        // Erased, as a whole.
        (None, None, None, None)
            if row.address.is_none() && stdout_sha256.is_none() && stderr_sha256.is_none() =>
        {
            None
        }
        _ => return None,
    };
    // It had names that no hash covered.
    if row.programs.is_some() {
        return None;
    }
    let event = Event {
        chain: row.chain,
        seq: row.seq,
        time_us: row.time_us,
        role: row.role,
        token_id: row.token_id,
        action: row.action,
        object: row.object,
        session_id: row.session_id,
        exec_id: row.exec_id,
        outcome: row.outcome,
        decision,
        sandbox,
        detail_sha256: row.detail_sha256.try_into().ok()?,
        detail,
    };
    Some(AuditRecord { event, hash: row.hash.try_into().ok()? })
}

/// `None` if there are some, and not as many as a digest has.
fn optional_bytes<const N: usize>(stored: Option<Vec<u8>>) -> Option<Option<[u8; N]>> {
    match stored {
        None => Some(None),
        Some(stored) => stored.try_into().ok().map(Some),
    }
}
