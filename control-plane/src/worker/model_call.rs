//! The activity `model_call`: one answer of the model, streamed to clients while it comes, then
//! stored as a whole. A repeated attempt finds what an earlier one stored.

use std::time::{Duration, Instant};

use domain::ids::{ExecId, SessionId, TenantId, TurnId};
use domain::limits::{DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS};
use protocol::session::{ModelRequest, ModelStep};
use serde_json::json;
use tokio::sync::mpsc;
use traces::{Attribute, Kind, Span};

use super::{Activities, ActivityFailure};
use crate::ids;
use crate::model::{Answer, ModelError, ModelToolCall, Prompt, read_answer};
use crate::outcome::turns;
use crate::store::{AuditEntry, EventKind, NewExec, Scope, StoredStep, Turn};

/// How often pieces of an answer are handed to clients.
const DELTA_INTERVAL: Duration = Duration::from_millis(80);

impl Activities {
    pub(super) async fn model_call(
        &self,
        request: ModelRequest,
        called_off: impl Future<Output = ()>,
    ) -> Result<Option<ModelStep>, ActivityFailure> {
        let ModelRequest { tenant_id, session_id, turn_id, step } = request;
        let mut scope = self.store.tenant(tenant_id).await?;
        let turn = scope.lock_turn(turn_id).await?;
        let parent = turn.traceparent.as_deref();
        let mut span = Span::below(parent, "model_call", Kind::Consumer);
        span.set(Attribute::tenant(tenant_id));
        span.set(Attribute::session(session_id));
        span.set(Attribute::turn(turn_id));
        if let Some(known) = scope.find_step(turn_id, step).await? {
            return Ok(Some(ModelStep { step: known.step, execs: known.execs, done: known.done }));
        }
        if turn.is_over() {
            return Ok(Some(ModelStep { step, execs: Vec::new(), done: true }));
        }
        if turn.state == "queued" {
            begin(&mut scope, &turn).await?;
        }
        let session = scope.get_session(session_id).await?;
        let items = scope.list_items(session_id).await?;
        scope.commit().await?;

        let prompt = Prompt { model: session.model.as_deref(), items: &items, session_id };
        let (sender, pieces) = mpsc::channel(64);
        let answer = async {
            let relay = self.relay(tenant_id, session_id, turn_id, pieces);
            tokio::join!(self.model.stream(&prompt, sender), relay).0
        };
        // Only the waiting is broken off, never the storing.
        let answer = tokio::select! {
            answer = answer => answer,
            () = called_off => return Ok(None),
        };
        match answer {
            Ok((items, tokens)) => {
                let answer = read_answer(items);
                let mut scope = self.store.tenant(tenant_id).await?;
                scope.add_usage(0, 0, tokens).await?;
                let stored = store_answer(&mut scope, &turn, step, answer).await?;
                scope.commit().await?;
                Ok(Some(stored))
            }
            Err(ModelError::Refused(text)) => {
                let mut scope = self.store.tenant(tenant_id).await?;
                if !scope.lock_turn(turn_id).await?.is_over() {
                    finish(&mut scope, &turn, "failed", None, Some(&text)).await?;
                }
                scope.commit().await?;
                Ok(Some(ModelStep { step, execs: Vec::new(), done: true }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Hands pieces of the answer to clients, a few times a second. Best effort: the whole answer
    /// is stored at its end.
    async fn relay(
        &self,
        tenant_id: TenantId,
        session_id: SessionId,
        turn_id: TurnId,
        mut pieces: mpsc::Receiver<String>,
    ) {
        let mut text = String::new();
        let mut sent = Instant::now();
        while let Some(piece) = pieces.recv().await {
            text.push_str(&piece);
            if sent.elapsed() < DELTA_INTERVAL {
                continue;
            }
            sent = Instant::now();
            let data = json!({ "turn_id": turn_id, "text": std::mem::take(&mut text) });
            if let Ok(mut scope) = self.store.tenant(tenant_id).await
                && scope.append_event(session_id, EventKind::MessageDelta, data).await.is_ok()
            {
                let _ = scope.commit().await;
            }
        }
    }
}

async fn begin(scope: &mut Scope, turn: &Turn) -> Result<(), ActivityFailure> {
    scope.start_turn(turn.id).await?;
    let item = json!({
        "type": "message", "role": "user",
        "content": [{ "type": "input_text", "text": turn.input }],
    });
    scope.append_items(turn.session_id, &[item]).await?;
    let data = json!({ "turn_id": turn.id });
    Ok(scope.append_event(turn.session_id, EventKind::TurnStarted, data).await?)
}

async fn store_answer(
    scope: &mut Scope,
    turn: &Turn,
    step: u32,
    answer: Answer,
) -> Result<ModelStep, ActivityFailure> {
    // An attempt that was given up may come late: the turn that ended stays as it is.
    if scope.lock_turn(turn.id).await?.is_over() {
        return Ok(ModelStep { step, execs: Vec::new(), done: true });
    }
    let mut items = answer.items;
    // A call that cannot be carried out is answered at once, so that the model can mend it.
    items.extend(answer.refused.iter().map(|(call_id, why)| {
        json!({ "type": "function_call_output", "call_id": call_id, "output": why })
    }));
    scope.append_items(turn.session_id, &items).await?;
    let mut execs = Vec::new();
    for call in &answer.calls {
        execs.push(store_call(scope, turn, call).await?);
    }
    if !answer.text.is_empty() {
        let data = json!({ "turn_id": turn.id, "text": answer.text });
        scope.append_event(turn.session_id, EventKind::Message, data).await?;
    }
    let done = execs.is_empty() && answer.refused.is_empty();
    if done {
        finish(scope, turn, "completed", Some(&answer.text), None).await?;
    }
    scope.insert_step(turn.id, &StoredStep { step, execs: execs.clone(), done }).await?;
    Ok(ModelStep { step, execs, done })
}

async fn store_call(
    scope: &mut Scope,
    turn: &Turn,
    call: &ModelToolCall,
) -> Result<ExecId, ActivityFailure> {
    let exec_id: ExecId = ids::new();
    let exec = NewExec {
        id: exec_id,
        session_id: turn.session_id,
        call: Some((turn.id, &call.call_id)),
        kind: call.kind,
        background: false,
        stdin_open: false,
        terminal: None,
        command: &call.command,
        cwd: &call.workdir,
        env: &Default::default(),
        stdin: None,
        timeout_ms: call.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS).clamp(1, MAX_TIMEOUT_MS),
        created_by: &turn.created_by.to_string(),
        traceparent: turn.traceparent.as_deref(),
    };
    scope.insert_exec(&exec).await?;
    let entry = AuditEntry {
        token_id: Some(turn.created_by),
        session_id: Some(turn.session_id),
        detail: json!({ "command": exec.command, "cwd": exec.cwd, "turn_id": turn.id }),
        ..AuditEntry::by_part("model", "exec.create", exec_id)
    };
    scope.append_audit(entry);
    let data = json!({ "exec_id": exec_id, "state": "queued", "turn_id": turn.id });
    scope.append_event(turn.session_id, EventKind::ExecCreated, data).await?;
    Ok(exec_id)
}

async fn finish(
    scope: &mut Scope,
    turn: &Turn,
    state: &'static str,
    answer: Option<&str>,
    error: Option<&str>,
) -> Result<(), ActivityFailure> {
    Ok(turns::end(scope, turn.session_id, turn.id, state, answer, error).await?)
}
