//! The activity `record`: writes down what happened. Safe to repeat: a fact that is known changes
//! nothing.

use domain::exec::{ExecOutcome, ExecState};
use domain::ids::{ExecId, SessionId, TenantId, TurnId};
use domain::session::{SessionEvent, SessionState};
use protocol::exec::ToolReply;
use protocol::session::{Fact, RecordRequest, Recorded, TurnEnd};
use serde_json::json;
use traces::{Attribute, Kind, Span};

use super::{Activities, ActivityFailure};
use crate::outcome::{closing, reply, turns};
use crate::store::{AuditEntry, EventKind, Scope};

impl Activities {
    pub(super) async fn record(&self, request: RecordRequest) -> Result<Recorded, ActivityFailure> {
        let RecordRequest { tenant_id, session_id, fact } = request;
        match &fact {
            Fact::TurnEnded { turn_id, .. } => {
                self.settle_open(tenant_id, session_id, Some(*turn_id)).await?;
            }
            Fact::SessionClosed => self.settle_open(tenant_id, session_id, None).await?,
            Fact::Replied { .. } | Fact::Unanswered { .. } | Fact::Asked { .. } => {}
        }
        let mut scope = self.store.tenant(tenant_id).await?;
        let recorded = match fact {
            Fact::Replied { exec_id, reply } => {
                self.replied(&mut scope, tenant_id, exec_id, *reply).await?
            }
            Fact::Unanswered { exec_id } => unanswered(&mut scope, exec_id).await?,
            Fact::Asked { exec_id } => {
                let over = scope.get_exec(exec_id).await?.state.is_terminal();
                if over { Recorded::Done } else { Recorded::Retry { after_ms: 0 } }
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
        let mut span = Span::below(exec.traceparent.as_deref(), "record", Kind::Internal);
        span.set(Attribute::tenant(tenant_id));
        span.set(Attribute::exec(exec_id));
        if exec.state.is_terminal() {
            return Ok(Recorded::Done);
        }
        let key = self.tenant_keys.get(tenant_id).await?.payload_key;
        let report = reply::open(&key, tenant_id, &exec, &reply);
        Ok(reply::apply(scope, &exec, report).await?)
    }

    /// Ends what a turn or a session leaves behind, each exec in a transaction of its own: two
    /// rows of the same kind are never held at once.
    async fn settle_open(
        &self,
        tenant_id: TenantId,
        session_id: SessionId,
        turn_id: Option<TurnId>,
    ) -> Result<(), ActivityFailure> {
        let mut scope = self.store.tenant(tenant_id).await?;
        let open = scope.list_open_execs(session_id, turn_id).await?;
        drop(scope);
        for exec_id in open {
            let mut scope = self.store.tenant(tenant_id).await?;
            let exec = scope.lock_exec(exec_id).await?;
            if !exec.state.is_terminal() {
                // What runs was waited for; what is left here was never handed to an executor.
                let outcome = match exec.state {
                    ExecState::Running => ExecOutcome::Lost,
                    _ => ExecOutcome::Cancelled,
                };
                closing::settle(&mut scope, &exec, outcome, Some("its turn or session ended"))
                    .await?;
            }
            scope.commit().await?;
        }
        Ok(())
    }
}

/// Nobody answered, for as long as anybody could: it may have run.
async fn unanswered(scope: &mut Scope, exec_id: ExecId) -> Result<Recorded, ActivityFailure> {
    let exec = scope.lock_exec(exec_id).await?;
    if !exec.state.is_terminal() {
        let reason = "its executor never reported back";
        closing::settle(scope, &exec, ExecOutcome::Lost, Some(reason)).await?;
    }
    Ok(Recorded::Done)
}

async fn turn_ended(
    scope: &mut Scope,
    session_id: SessionId,
    turn_id: TurnId,
    end: TurnEnd,
) -> Result<Recorded, ActivityFailure> {
    let turn = scope.lock_turn(turn_id).await?;
    if turn.is_over() {
        return Ok(Recorded::Done);
    }
    let (state, error) = match end {
        TurnEnd::Interrupted => ("interrupted", "it was interrupted"),
        TurnEnd::ModelUnavailable => ("failed", "the model could not be reached in time"),
        TurnEnd::TooManySteps => ("failed", "it took more model calls than a turn may"),
    };
    turns::end(scope, session_id, turn_id, state, None, Some(error)).await?;
    Ok(Recorded::Done)
}

async fn session_closed(
    scope: &mut Scope,
    session_id: SessionId,
) -> Result<Recorded, ActivityFailure> {
    for turn in scope.list_open_turns(session_id).await? {
        let error = Some("its session ended");
        if scope.lock_turn(turn.id).await?.is_over() {
            continue;
        }
        turns::end(scope, session_id, turn.id, "interrupted", None, error).await?;
    }
    let session = scope.hold_session(session_id).await?;
    if session.state == SessionState::Closed {
        return Ok(Recorded::Done);
    }
    let state = session.state.apply(SessionEvent::Close)?;
    scope.set_session_state(session_id, state).await?;
    let entry = AuditEntry {
        session_id: Some(session_id),
        ..AuditEntry::by_part("worker", "session.closed", session_id)
    };
    scope.append_audit(entry);
    scope.queue_webhooks("session.closed", &session_id.to_string()).await?;
    scope.append_event(session_id, EventKind::SessionClosed, json!({})).await?;
    Ok(Recorded::Done)
}
