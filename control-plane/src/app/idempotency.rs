//! `Idempotency-Key`: the same request sent twice has one effect and one answer.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{AppError, Caller};
use crate::store::Scope;
use crate::store::idempotency::KeyUse;

const MAX_KEY_BYTES: usize = 255;

/// Claims the caller's key for `subject`, the thing that this request is about to make.
///
/// Returns what an earlier, equal request made under the key.
///
/// # Errors
/// When the key is malformed or was used for another request.
pub(super) async fn claim_key(
    scope: &mut Scope,
    caller: &Caller,
    key: Option<&str>,
    body: &Value,
    subject: &str,
) -> Result<Option<String>, AppError> {
    let Some(key) = key else { return Ok(None) };
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(AppError::invalid(
            "invalid_idempotency_key",
            format!("Idempotency-Key must be 1 to {MAX_KEY_BYTES} bytes"),
        ));
    }
    let fingerprint = Sha256::digest(body.to_string().as_bytes());
    match scope.claim_key(caller.token_id, key, &fingerprint, subject).await? {
        KeyUse::First => Ok(None),
        KeyUse::Repeated(earlier) => Ok(Some(earlier)),
        KeyUse::InUse => Err(AppError::Conflict {
            code: "idempotency_key_in_use",
            message: "a request with this Idempotency-Key is under way; try again in a moment"
                .into(),
        }),
        KeyUse::Reused => Err(AppError::invalid(
            "idempotency_key_reused",
            "this Idempotency-Key was used for another request; use a new one",
        )),
    }
}
