//! How turns end: the one place that ends them, each with its row in the audit log.

use domain::ids::{SessionId, TurnId};
use protocol::grant::hex;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::closing::{UNKNOWN, Verdict};
use crate::store::{AuditEntry, EventKind, Scope, StoreError, Turn};

/// Ends a turn that is not over. The caller holds its row.
pub(crate) async fn end(
    scope: &mut Scope,
    session_id: SessionId,
    turn_id: TurnId,
    state: &'static str,
    answer: Option<&str>,
    error: Option<&str>,
) -> Result<(), StoreError> {
    let verdict = Verdict { part: "worker", outcome: state };
    end_as(scope, session_id, turn_id, state, answer, error, verdict).await
}

/// Ends a turn of which nobody has told anything for long. The audit log says what is true:
/// `unknown`; clients see it `failed`.
pub(crate) async fn end_unknown(scope: &mut Scope, turn: &Turn) -> Result<(), StoreError> {
    let error = "nobody told of its end for long; whether the agent went on is not known";
    end_as(scope, turn.session_id, turn.id, "failed", None, Some(error), UNKNOWN).await
}

async fn end_as(
    scope: &mut Scope,
    session_id: SessionId,
    turn_id: TurnId,
    state: &'static str,
    answer: Option<&str>,
    error: Option<&str>,
    verdict: Verdict,
) -> Result<(), StoreError> {
    scope.finish_turn(turn_id, state, answer, error).await?;
    let answer_sha256 = answer.map(|answer| hex(&Sha256::digest(answer)));
    scope.append_audit(AuditEntry {
        session_id: Some(session_id),
        outcome: verdict.outcome,
        detail: json!({ "answer_sha256": answer_sha256, "error": error }),
        ..AuditEntry::by_part(verdict.part, "turn.finish", turn_id)
    });
    let data = json!({ "turn_id": turn_id, "state": state, "error": error });
    scope.append_event(session_id, EventKind::TurnFinished, data).await
}
