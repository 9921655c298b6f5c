//! Accepting a user's message.

use domain::access::Operation;
use domain::ids::{SessionId, TurnId};
use domain::limits::MAX_TURN_BYTES;
use protocol::grant::hex;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::idempotency::claim_key;
use super::{App, AppError, Caller, checks};
use crate::ids;
use crate::outcome::turns;
use crate::store::{EventKind, Message, Turn};

impl App {
    /// Accepts a user's message as a new turn. Turns of a session run one after another.
    ///
    /// # Errors
    /// When the caller may not, the session cannot take it, or Temporal is away: then the turn
    /// will not run.
    pub async fn submit_turn(
        &self,
        caller: &Caller,
        session_id: SessionId,
        input: &str,
        idempotency_key: Option<&str>,
    ) -> Result<Turn, AppError> {
        if input.len() > MAX_TURN_BYTES {
            return Err(AppError::TooLarge {
                code: "input_too_large",
                message: format!("input is over {MAX_TURN_BYTES} bytes"),
            });
        }
        if input.trim().is_empty() || input.contains('\0') {
            return Err(AppError::invalid(
                "invalid_input",
                "input must not be empty or contain a NUL character",
            ));
        }
        let mut scope = caller.open(self, Operation::Work).await?;
        let (quota, usage) = scope.hold_exec_usage().await?;
        let session = scope.hold_session(session_id).await.map_err(AppError::of("session"))?;
        checks::check_open(&mut scope, &session).await?;
        let turn_id: TurnId = ids::new();
        let body = json!(["turn", session_id, input]);
        let earlier =
            claim_key(&mut scope, caller, idempotency_key, &body, &turn_id.to_string()).await?;
        if let Some(earlier) = earlier.and_then(|id| id.parse().ok()) {
            drop(scope);
            return self.get_turn(caller, earlier).await;
        }
        quota.check_turn(&usage)?;
        scope.insert_turn(turn_id, session_id, input, caller.token_id, caller.trace()).await?;
        let detail = json!({
            "input_bytes": input.len(), "input_sha256": hex(&Sha256::digest(input)),
        });
        let entry = caller.session_entry("turn.create", turn_id.to_string(), session_id, detail);
        scope.append_audit(entry);
        let data = json!({ "turn_id": turn_id });
        scope.append_event(session_id, EventKind::TurnCreated, data).await?;
        let outgoing = scope.promise(session_id, Message::Turn(turn_id)).await?;
        scope.commit().await?;
        if let Err(error) = self.dispatcher.send(&outgoing).await {
            let mut scope = caller.open(self, Operation::Work).await?;
            if scope.lock_turn(turn_id).await?.state == "queued" {
                scope.release_keys(&turn_id.to_string()).await?;
                let why = "Temporal did not answer when it was submitted";
                turns::end(&mut scope, session_id, turn_id, "failed", None, Some(why)).await?;
                scope.commit().await?;
                return Err(AppError::TemporalUnavailable(error));
            }
        }
        self.get_turn(caller, turn_id).await
    }

    /// One turn.
    ///
    /// # Errors
    /// When the caller may not or there is no such turn.
    pub async fn get_turn(&self, caller: &Caller, id: TurnId) -> Result<Turn, AppError> {
        let mut scope = caller.open(self, Operation::ReadWork).await?;
        scope.get_turn(id).await.map_err(AppError::of("turn"))
    }
}
