//! `Idempotency-Key`: the same request sent twice has one effect and one answer.
//!
//! Where the answer shows a secret, it is kept for the repeat, wrapped with the master key and bound
//! to its key and the token that asked; it goes with the key, after a day.

use domain::ids::TokenId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{App, AppError, Caller};
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

impl App {
    /// Claims the caller's key for `subject`, a thing whose making shows a secret.
    ///
    /// Returns the answer that an earlier, equal request got under the key.
    ///
    /// # Errors
    /// When the key is malformed or was used for another request, or the answer cannot be read.
    pub(super) async fn claim_answer<T: DeserializeOwned>(
        &self,
        scope: &mut Scope,
        caller: &Caller,
        key: Option<&str>,
        body: &Value,
        subject: &str,
    ) -> Result<Option<T>, AppError> {
        if claim_key(scope, caller, key, body, subject).await?.is_none() {
            return Ok(None);
        }
        let key = key.unwrap_or_default();
        let wrapped = scope.get_answer(caller.token_id, key).await?.unwrap_or_default();
        let answer = self
            .keys
            .unwrap_secret(&context(caller.token_id, key), &wrapped)
            .map_err(AppError::internal)?;
        serde_json::from_slice(&answer).map(Some).map_err(AppError::internal)
    }

    /// Keeps the answer for a repeat, if the request has a key.
    ///
    /// # Errors
    /// When it cannot be wrapped or the database fails.
    pub(super) async fn keep_answer<T: Serialize>(
        &self,
        scope: &mut Scope,
        caller: &Caller,
        key: Option<&str>,
        answer: &T,
    ) -> Result<(), AppError> {
        let Some(key) = key else { return Ok(()) };
        let answer = serde_json::to_vec(answer).map_err(AppError::internal)?;
        let wrapped = self
            .keys
            .wrap_secret(&context(caller.token_id, key), &answer)
            .map_err(AppError::internal)?;
        Ok(scope.keep_answer(caller.token_id, key, &wrapped).await?)
    }
}

fn context(token_id: TokenId, key: &str) -> String {
    format!("answer/{token_id}/{key}")
}
