//! Accepting a command: written down with its audit event, then handed to the workflow.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::access::Operation;
use domain::exec::{ExecOutcome, ExecState};
use domain::ids::{ExecId, SessionId};
use domain::limits;
use domain::session::SessionState;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{App, AppError, Caller, checks};
use crate::ids;
use crate::store::idempotency::KeyUse;
use crate::store::{EventKind, Exec, ExecError, Message, NewExec, Scope};

/// A command to be run.
pub struct SubmitExec {
    /// Script for `bash -c`.
    pub command: String,
    /// Where it runs; `/work` if not given.
    pub cwd: Option<String>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// Its standard input.
    pub stdin: Option<String>,
    /// Milliseconds it may run.
    pub timeout_ms: Option<u64>,
    /// Milliseconds to wait for its end.
    pub wait_ms: u64,
    /// Makes a repeated request harmless.
    pub idempotency_key: Option<String>,
}

/// A command that was accepted.
pub struct SubmittedExec {
    /// The exec as it stands now.
    pub exec: Exec,
}

impl App {
    /// Accepts a command and waits for it as long as the request says.
    ///
    /// # Errors
    /// When the caller may not, the session cannot take it, or Temporal is away: then it will
    /// certainly not run.
    pub async fn submit_exec(
        &self,
        caller: &Caller,
        session_id: SessionId,
        request: &SubmitExec,
    ) -> Result<SubmittedExec, AppError> {
        check(request)?;
        let mut scope = caller.open(self, Operation::Work).await?;
        let session = scope.get_session(session_id).await.map_err(AppError::of("session"))?;
        if session.state != SessionState::Open {
            return Err(AppError::Conflict {
                code: "session_closed",
                message: "the session is closed; create another one".into(),
            });
        }
        let exec_id: ExecId = ids::new();
        if let Some(earlier) = claim_key(&mut scope, caller, session_id, exec_id, request).await? {
            drop(scope);
            return self.wait(caller, earlier, session_id, request.wait_ms).await;
        }
        let exec = NewExec {
            id: exec_id,
            session_id,
            call: None,
            command: &request.command,
            cwd: request.cwd.as_deref().unwrap_or("/work"),
            env: &request.env,
            stdin: request.stdin.as_ref().map(|stdin| stdin.as_bytes()),
            timeout_ms: request.timeout_ms.unwrap_or(limits::DEFAULT_TIMEOUT_MS),
            created_by: &caller.token_id.to_string(),
        };
        scope.insert_exec(&exec).await?;
        let detail = json!({ "command": exec.command, "cwd": exec.cwd });
        let entry = caller.session_entry("exec.create", exec_id.to_string(), session_id, detail);
        scope.append_audit(&entry).await?;
        let data = json!({ "exec_id": exec_id, "state": "queued" });
        scope.append_event(session_id, EventKind::ExecCreated, data).await?;
        let outgoing = scope.promise(session_id, Message::Exec(exec_id)).await?;
        scope.commit().await?;

        if let Err(error) = self.dispatcher.send(&outgoing).await
            && self.take_back(caller, exec_id).await?
        {
            return Err(AppError::TemporalUnavailable(error));
        }
        self.wait(caller, exec_id, session_id, request.wait_ms).await
    }

    /// Makes sure that an exec whose message did not arrive never runs, whatever Temporal got.
    ///
    /// Returns false when it runs already: then the message did arrive.
    async fn take_back(&self, caller: &Caller, exec_id: ExecId) -> Result<bool, AppError> {
        let mut scope = caller.open(self, Operation::Work).await?;
        let exec = scope.lock_exec(exec_id).await?;
        if exec.state != ExecState::Queued || exec.decision.is_some() {
            return Ok(false);
        }
        let error = ExecError {
            code: "temporal_unavailable".into(),
            message: "Temporal did not answer when it was submitted".into(),
        };
        scope.finish_unstarted_exec(exec_id, ExecOutcome::Cancelled.into(), Some(&error)).await?;
        let mut entry = caller.session_entry(
            "exec.finish",
            exec_id.to_string(),
            exec.session_id,
            json!({ "error": error }),
        );
        entry.outcome = "cancelled";
        scope.append_audit(&entry).await?;
        let data = json!({ "exec_id": exec_id, "state": "cancelled" });
        scope.append_event(exec.session_id, EventKind::ExecFinished, data).await?;
        scope.commit().await?;
        Ok(true)
    }

    async fn wait(
        &self,
        caller: &Caller,
        exec_id: ExecId,
        session_id: SessionId,
        wait_ms: u64,
    ) -> Result<SubmittedExec, AppError> {
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        let mut news = self.hub.subscribe(session_id);
        loop {
            let exec = self.get_exec(caller, exec_id).await?;
            let now = Instant::now();
            if exec.state.is_terminal() || now >= deadline {
                return Ok(SubmittedExec { exec });
            }
            // The listener may be away for a moment; a look per second costs nothing.
            let until = deadline.min(now + Duration::from_secs(1));
            let _ = tokio::time::timeout_at(until, news.changed()).await;
        }
    }

    /// One exec.
    ///
    /// # Errors
    /// When the caller may not or there is no such exec.
    pub async fn get_exec(&self, caller: &Caller, id: ExecId) -> Result<Exec, AppError> {
        let mut scope = caller.open(self, Operation::ReadWork).await?;
        scope.get_exec(id).await.map_err(AppError::of("exec"))
    }

    /// Calls off an exec. One that is over stays as it is.
    ///
    /// # Errors
    /// When the caller may not or there is no such exec.
    pub async fn cancel_exec(&self, caller: &Caller, id: ExecId) -> Result<Exec, AppError> {
        let mut scope = caller.open(self, Operation::Work).await?;
        let exec = scope.lock_exec(id).await.map_err(AppError::of("exec"))?;
        if exec.state.is_terminal() {
            return Ok(exec);
        }
        scope.request_cancel(id).await?;
        let entry = caller.session_entry("exec.cancel", id.to_string(), exec.session_id, json!({}));
        scope.append_audit(&entry).await?;
        let outgoing = scope.promise(exec.session_id, Message::CancelExec(id)).await?;
        scope.commit().await?;
        if let Err(error) = self.dispatcher.send(&outgoing).await {
            tracing::warn!(%error, exec_id = %id, "cancel stays in the outbox");
        }
        self.get_exec(caller, id).await
    }
}

async fn claim_key(
    scope: &mut Scope,
    caller: &Caller,
    session_id: SessionId,
    exec_id: ExecId,
    request: &SubmitExec,
) -> Result<Option<ExecId>, AppError> {
    let Some(key) = &request.idempotency_key else { return Ok(None) };
    if key.is_empty() || key.len() > 255 {
        return Err(AppError::invalid(
            "invalid_idempotency_key",
            "Idempotency-Key must be 1 to 255 bytes",
        ));
    }
    let body = json!([
        session_id,
        request.command,
        request.cwd,
        request.env,
        request.stdin,
        request.timeout_ms,
    ]);
    let fingerprint = Sha256::digest(body.to_string().as_bytes());
    let subject = exec_id.to_string();
    match scope.claim_key(caller.token_id, key, &fingerprint, &subject).await? {
        KeyUse::First => Ok(None),
        KeyUse::Repeated(earlier) => Ok(earlier.parse().ok()),
        KeyUse::Reused => Err(AppError::invalid(
            "idempotency_key_reused",
            "this Idempotency-Key was used for another request; use a new one",
        )),
    }
}

fn check(request: &SubmitExec) -> Result<(), AppError> {
    checks::check_command(&request.command)?;
    if let Some(cwd) = &request.cwd {
        checks::check_cwd(cwd)?;
    }
    checks::check_env(&request.env)?;
    if request.stdin.as_ref().is_some_and(|stdin| stdin.len() > limits::MAX_STDIN_BYTES) {
        return Err(AppError::TooLarge {
            code: "stdin_too_large",
            message: format!("stdin is over {} bytes", limits::MAX_STDIN_BYTES),
        });
    }
    let timeout_ms = request.timeout_ms.unwrap_or(limits::DEFAULT_TIMEOUT_MS);
    if !(1..=limits::MAX_TIMEOUT_MS).contains(&timeout_ms) {
        let max = limits::MAX_TIMEOUT_MS;
        return Err(AppError::invalid(
            "invalid_timeout",
            format!("timeout_ms must be between 1 and {max}"),
        ));
    }
    if request.wait_ms > limits::MAX_WAIT_MS {
        let max = limits::MAX_WAIT_MS;
        return Err(AppError::invalid("invalid_wait", format!("wait_ms must be at most {max}")));
    }
    Ok(())
}
