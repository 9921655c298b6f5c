//! Work on files in the audit log: what was requested has an outcome there, or `unknown`.

use serde_json::json;

use super::closing::UNKNOWN;
use crate::store::{AuditEntry, OpenFileCall};

/// How long work on files may take, in milliseconds: somewhat longer than a client may stream.
pub(crate) const TIMEOUT_MS: u64 = 630_000;

/// The audit actions of work that is on record before it happens.
pub(crate) const PUT: &str = "file.put";
pub(crate) const GET: &str = "file.get";
pub(crate) const MKDIR: &str = "file.mkdir";
pub(crate) const DELETE: &str = "file.delete";
pub(crate) const PUT_ARCHIVE: &str = "file.put_archive";
pub(crate) const GET_ARCHIVE: &str = "file.get_archive";

const ALL: [&str; 6] = [PUT, GET, MKDIR, DELETE, PUT_ARCHIVE, GET_ARCHIVE];

/// The outcome of work of which nobody told how it ended: the client left, or a process of ours died.
pub(crate) fn unknown(call: &OpenFileCall) -> AuditEntry {
    let action = ALL.into_iter().find(|action| *action == call.action).unwrap_or("file");
    let reason = "nobody told of its end for long after its time; whether it was done is not known";
    AuditEntry {
        token_id: Some(call.token_id),
        session_id: Some(call.session_id),
        outcome: UNKNOWN.outcome,
        detail: json!({ "path": call.path, "call": call.id, "reason": reason }),
        ..AuditEntry::by_part(UNKNOWN.part, action, call.session_id)
    }
}
