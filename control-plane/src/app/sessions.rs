//! Sessions: make, end, interrupt.

use domain::access::Operation;
use domain::ids::SessionId;
use domain::limits::SandboxLimits;
use domain::session::{SessionEvent, SessionState};
use policy::Mode;
use serde_json::json;

use super::idempotency::claim_key;
use super::tokens::check_name;
use super::{App, AppError, Caller};
use crate::ids;
use crate::store::{EventKind, Message, NewSession, Session};

/// The one image that there is so far.
const DEFAULT_IMAGE: &str = "bulkhead-sandbox:bookworm";

/// A session to be made.
pub struct CreateSession {
    /// Its name.
    pub name: Option<String>,
    /// The image of its sandbox.
    pub image: Option<String>,
    /// What its sandbox may use.
    pub limits: SandboxLimits,
    /// The model that its turns use.
    pub model: Option<String>,
    /// How it treats what policy says.
    pub approval_mode: Option<String>,
    /// What it is for; policies may ask.
    pub environment: Option<String>,
}

impl App {
    /// Makes a session. Its workflow and its sandbox start with its first work.
    ///
    /// # Errors
    /// When the caller may not, or a value is not acceptable.
    pub async fn create_session(
        &self,
        caller: &Caller,
        request: &CreateSession,
        idempotency_key: Option<&str>,
    ) -> Result<Session, AppError> {
        let mut scope = caller.open(self, Operation::Work).await?;
        let name = request.name.as_deref().unwrap_or("session");
        check_name(name)?;
        if let Some(model) = &request.model {
            check_name(model)?;
        }
        if request.image.as_deref().is_some_and(|image| image != DEFAULT_IMAGE) {
            return Err(AppError::invalid(
                "unknown_image",
                format!("image must be {DEFAULT_IMAGE} or left out"),
            ));
        }
        let mode = checked_mode(request.approval_mode.as_deref())?;
        let environment = request.environment.as_deref().unwrap_or_default();
        if !environment.is_empty() {
            check_name(environment)?;
        }
        request
            .limits
            .validate()
            .map_err(|error| AppError::invalid("invalid_limits", error.to_string()))?;
        let session = NewSession {
            id: ids::new(),
            name,
            model: request.model.as_deref(),
            approval_mode: mode,
            environment,
            limits: request.limits,
            created_by: caller.token_id,
        };
        let body = json!([
            "session",
            name,
            request.image,
            request.limits,
            request.model,
            mode,
            environment,
        ]);
        let id = session.id.to_string();
        let earlier = claim_key(&mut scope, caller, idempotency_key, &body, &id).await?;
        if let Some(earlier) = earlier.and_then(|id| id.parse().ok()) {
            return scope.get_session(earlier).await.map_err(AppError::of("session"));
        }
        let (quota, usage) = scope.hold_usage().await?;
        let memory_bytes = i64::try_from(request.limits.memory_bytes).unwrap_or(i64::MAX);
        quota.check_session(&usage, memory_bytes, request.limits.cpu_millis.into())?;
        scope.insert_session(&session).await?;
        let detail = json!({
            "name": name, "limits": request.limits, "approval_mode": mode,
            "environment": environment,
        });
        let entry =
            caller.session_entry("session.create", session.id.to_string(), session.id, detail);
        scope.append_audit(entry);
        scope.append_event(session.id, EventKind::SessionCreated, json!({})).await?;
        let stored = scope.get_session(session.id).await?;
        scope.commit().await?;
        Ok(stored)
    }

    /// Asks a session to end: what runs is cancelled, its sandbox removed.
    ///
    /// # Errors
    /// When the caller may not or there is no such session.
    pub async fn close_session(&self, caller: &Caller, id: SessionId) -> Result<(), AppError> {
        let mut scope = caller.open(self, Operation::Work).await?;
        // Held: its workflow may close it at this very moment, and closed stays closed.
        let session = scope.hold_session(id).await.map_err(AppError::of("session"))?;
        if session.state == SessionState::Closed {
            return Ok(());
        }
        let next =
            session.state.apply(SessionEvent::RequestShutdown).map_err(AppError::internal)?;
        scope.set_session_state(id, next).await?;
        let entry = caller.session_entry("session.close", id.to_string(), id, json!({}));
        scope.append_audit(entry);
        scope.append_event(id, EventKind::SessionClosing, json!({})).await?;
        let outgoing = scope.promise(id, Message::Shutdown).await?;
        scope.commit().await?;
        // Accepted: if Temporal is away, the outbox keeps it.
        if let Err(error) = self.dispatcher.send(&outgoing).await {
            tracing::warn!(%error, session_id = %id, "shutdown stays in the outbox");
        }
        Ok(())
    }

    /// Interrupts the turn that runs in a session.
    ///
    /// # Errors
    /// When the caller may not or there is no such session.
    pub async fn interrupt_session(&self, caller: &Caller, id: SessionId) -> Result<(), AppError> {
        let mut scope = caller.open(self, Operation::Work).await?;
        scope.get_session(id).await.map_err(AppError::of("session"))?;
        let turns = scope.list_open_turns(id).await?;
        let Some(turn) = turns.iter().find(|turn| turn.state == "running") else {
            return Err(AppError::Conflict {
                code: "no_turn_runs",
                message: "no turn runs in this session; there is nothing to interrupt".into(),
            });
        };
        scope.request_cancel_of_turn(turn.id).await?;
        let detail = json!({ "turn_id": turn.id });
        scope.append_audit(caller.session_entry("session.interrupt", id.to_string(), id, detail));
        let outgoing = scope.promise(id, Message::Interrupt(turn.id)).await?;
        scope.commit().await?;
        if let Err(error) = self.dispatcher.send(&outgoing).await {
            tracing::warn!(%error, session_id = %id, "interrupt stays in the outbox");
        }
        Ok(())
    }
}

fn checked_mode(name: Option<&str>) -> Result<Mode, AppError> {
    let Some(name) = name else { return Ok(Mode::default()) };
    Mode::from_name(name).ok_or_else(|| {
        AppError::invalid(
            "invalid_approval_mode",
            "approval_mode must be policy, ask-all, deny-asks or read-only",
        )
    })
}
