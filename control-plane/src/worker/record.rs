//! The activity `record`: writes down what happened. Safe to repeat: a fact that is known changes
//! nothing.

use domain::exec::ExecOutcome;
use domain::ids::{ExecId, SessionId, TenantId, TurnId};
use domain::session::{SessionEvent, SessionState};
use protocol::exec::{NotStarted, ToolOutcome, ToolReply};
use protocol::session::{Fact, RecordRequest, Recorded, TurnEnd};
use serde_json::json;

use super::{Activities, ActivityFailure, closing};
use crate::store::{AuditEntry, EventKind, Exec, ExecError, Scope};

/// How long to wait before an exec is tried again whose sandbox could not be made.
const SANDBOX_RETRY_MS: u64 = 2000;

impl Activities {
    pub(super) async fn record(&self, request: RecordRequest) -> Result<Recorded, ActivityFailure> {
        let RecordRequest { tenant_id, session_id, fact } = request;
        let mut scope = self.store.tenant(tenant_id).await?;
        let recorded = match fact {
            Fact::Replied { exec_id, reply } => {
                self.replied(&mut scope, tenant_id, exec_id, *reply).await?
            }
            Fact::Unanswered { exec_id, cancelled } => {
                unanswered(&mut scope, exec_id, cancelled).await?
            }
            Fact::TurnEnded { turn_id, end } => {
                turn_ended(&mut scope, session_id, turn_id, end).await?
            }
            Fact::SessionClosed => session_closed(&mut scope, session_id).await?,
        };
        scope.commit().await?;
        Ok(recorded)
    }

    async fn replied(
        &self,
        scope: &mut Scope,
        tenant_id: TenantId,
        exec_id: ExecId,
        reply: ToolReply,
    ) -> Result<Recorded, ActivityFailure> {
        let exec = scope.lock_exec(exec_id).await?;
        if exec.state.is_terminal() {
            return Ok(Recorded::Done);
        }
        match reply.outcome {
            ToolOutcome::NotStarted(why) => not_started(scope, &exec, why).await,
            ToolOutcome::Finished(sealed) => {
                let tenant = self.tenant_keys.get(tenant_id).await?;
                let context = format!("result/{exec_id}");
                match sealing::open(&tenant.payload_key, tenant_id, &context, &sealed) {
                    Ok(result) => {
                        closing::finish(scope, &exec, &result, reply.sandbox).await?;
                        if let Some(sandbox) = reply.sandbox {
                            scope.set_session_sandbox(exec.session_id, sandbox).await?;
                        }
                    }
                    // Not made with the tenant's key for this exec: whoever sent it is no executor
                    // of the tenant, and what became of the command is not known.
                    Err(error) => {
                        tracing::error!(%exec_id, %error, "forged or damaged result refused");
                        let reason = "the result that came back was not its executor's";
                        closing::settle(scope, &exec, ExecOutcome::Lost, Some(reason)).await?;
                    }
                }
                Ok(Recorded::Done)
            }
        }
    }
}

async fn not_started(
    scope: &mut Scope,
    exec: &Exec,
    why: NotStarted,
) -> Result<Recorded, ActivityFailure> {
    match why {
        NotStarted::GrantExpired => return Ok(Recorded::Retry { after_ms: 1 }),
        NotStarted::SandboxUnavailable if !exec.cancel_requested => {
            if exec.waiting_reason.as_deref() != Some(why.message()) {
                scope.set_exec_waiting(exec.id, why.message()).await?;
                let data = json!({ "exec_id": exec.id, "reason": why.message() });
                scope.append_event(exec.session_id, EventKind::ExecWaiting, data).await?;
            }
            return Ok(Recorded::Retry { after_ms: SANDBOX_RETRY_MS });
        }
        _ => {}
    }
    let code = match why {
        NotStarted::GrantExpired => "grant_expired",
        NotStarted::GrantRefused => "grant_refused",
        NotStarted::Cancelled => "cancelled",
        NotStarted::ImageMissing => "image_missing",
        NotStarted::CwdMissing => "cwd_missing",
        NotStarted::SandboxUnavailable => "sandbox_unavailable",
    };
    let error = ExecError { code: code.into(), message: why.message().into() };
    closing::settle_with(scope, exec, ExecOutcome::Cancelled, Some(&error)).await?;
    Ok(Recorded::Done)
}

/// Nobody answered. Called off before any executor took it: it never ran. Otherwise it may have.
async fn unanswered(
    scope: &mut Scope,
    exec_id: ExecId,
    cancelled: bool,
) -> Result<Recorded, ActivityFailure> {
    let exec = scope.lock_exec(exec_id).await?;
    if exec.state.is_terminal() {
        return Ok(Recorded::Done);
    }
    let (outcome, reason) = if cancelled && exec.started_at.is_none() {
        (ExecOutcome::Cancelled, "it was cancelled before an executor took it")
    } else {
        (ExecOutcome::Lost, "its executor never reported back")
    };
    closing::settle(scope, &exec, outcome, Some(reason)).await?;
    Ok(Recorded::Done)
}

async fn turn_ended(
    scope: &mut Scope,
    session_id: SessionId,
    turn_id: TurnId,
    end: TurnEnd,
) -> Result<Recorded, ActivityFailure> {
    let turn = scope.get_turn(turn_id).await?;
    if turn.is_over() {
        return Ok(Recorded::Done);
    }
    let (state, error) = match end {
        TurnEnd::Interrupted => ("interrupted", "it was interrupted"),
        TurnEnd::ModelUnavailable => ("failed", "the model could not be reached in time"),
        TurnEnd::TooManySteps => ("failed", "it took more model calls than a turn may"),
    };
    scope.finish_turn(turn_id, state, None, Some(error)).await?;
    let data = json!({ "turn_id": turn_id, "state": state, "error": error });
    scope.append_event(session_id, EventKind::TurnFinished, data).await?;
    Ok(Recorded::Done)
}

async fn session_closed(
    scope: &mut Scope,
    session_id: SessionId,
) -> Result<Recorded, ActivityFailure> {
    let session = scope.get_session(session_id).await?;
    if session.state == SessionState::Closed {
        return Ok(Recorded::Done);
    }
    let state = session.state.apply(SessionEvent::Close)?;
    scope.set_session_state(session_id, state).await?;
    let entry = AuditEntry {
        actor: "worker",
        token_id: None,
        address: None,
        action: "session.closed",
        object: session_id.to_string(),
        session_id: Some(session_id),
        outcome: "ok",
        detail: json!({}),
    };
    scope.append_audit(&entry).await?;
    scope.append_event(session_id, EventKind::SessionClosed, json!({})).await?;
    Ok(Recorded::Done)
}
