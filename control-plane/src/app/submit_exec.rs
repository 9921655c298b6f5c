//! Accepting a command: written down with its audit event, then handed to the workflow.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::access::Operation;
use domain::exec::ExecOutcome;
use domain::ids::{ExecId, SessionId};
use domain::limits;
use protocol::exec::ExecKind;
use protocol::grant::hex;
use protocol::init::TerminalSize;
use protocol::session::ExecRef;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::idempotency::claim_key;
use super::{App, AppError, Caller, checks};
use crate::dispatch::DispatchError;
use crate::ids;
use crate::outcome::closing;
use crate::store::{EventKind, Exec, ExecError, Message, NewExec, Outgoing, Scope, StoreError};

/// With more unfinished work than this, a session's commands wait for their workflow, which carries
/// out so many at once.
const MAX_WORK_AHEAD: i64 = domain::agenda::MAX_PARALLEL as i64;

/// Why an exec of a session waits whose executor does not answer.
const SILENT: &str = "the session's executor does not answer; see that bulkhead-executor runs";

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
    /// It takes input while it runs.
    pub stdin_open: bool,
    /// It gets a terminal of this size.
    pub terminal: Option<TerminalSize>,
    /// It may run longer than anybody waits.
    pub background: bool,
    /// Milliseconds it may run.
    pub timeout_ms: Option<u64>,
    /// Milliseconds to wait for its end.
    pub wait_ms: u64,
    /// Makes a repeated request harmless.
    pub idempotency_key: Option<String>,
}

impl SubmitExec {
    fn timeout_ms(&self) -> u64 {
        self.timeout_ms.unwrap_or(match self.background {
            true => limits::MAX_TIMEOUT_MS,
            false => limits::DEFAULT_TIMEOUT_MS,
        })
    }
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
        let tenant_id = caller.authorize(Operation::Work)?;
        let mut scope = caller.open(self, Operation::Work).await?;
        let (quota, usage) = scope.hold_exec_usage().await?;
        let session = scope.hold_session(session_id).await.map_err(AppError::of("session"))?;
        let open_work = checks::check_open(&mut scope, &session).await?;
        let exec_id: ExecId = ids::new();
        let body = json!([
            "exec",
            session_id,
            request.command,
            request.cwd,
            request.env,
            request.stdin,
            request.timeout_ms,
            request.stdin_open,
            request.terminal,
            request.background,
        ]);
        let key = request.idempotency_key.as_deref();
        let earlier = claim_key(&mut scope, caller, key, &body, &exec_id.to_string()).await?;
        if let Some(earlier) = earlier.and_then(|id| id.parse().ok()) {
            drop(scope);
            return self.wait(caller, earlier, session_id, request.wait_ms).await;
        }
        quota.check_exec(&usage)?;
        let exec = NewExec {
            id: exec_id,
            session_id,
            call: None,
            kind: ExecKind::Shell,
            background: request.background,
            stdin_open: request.stdin_open,
            terminal: request.terminal,
            command: &request.command,
            cwd: request.cwd.as_deref().unwrap_or("/work"),
            env: &request.env,
            stdin: request.stdin.as_ref().map(|stdin| stdin.as_bytes()),
            timeout_ms: request.timeout_ms(),
            created_by: &caller.token_id.to_string(),
            traceparent: caller.trace(),
        };
        scope.insert_exec(&exec).await?;
        let names: Vec<&String> = request.env.keys().collect();
        let stdin = exec
            .stdin
            .map(|stdin| json!({ "bytes": stdin.len(), "sha256": hex(&Sha256::digest(stdin)) }));
        let detail = json!({
            "command": exec.command, "cwd": exec.cwd, "env_names": names, "stdin": stdin,
            "timeout_ms": exec.timeout_ms, "stdin_open": exec.stdin_open,
            "terminal": exec.terminal, "background": exec.background,
        });
        let entry = caller.session_entry("exec.create", exec_id.to_string(), session_id, detail);
        scope.append_audit(entry);
        let data = json!({ "exec_id": exec_id, "state": "queued" });
        scope.append_event(session_id, EventKind::ExecCreated, data).await?;
        let outgoing = scope.promise(session_id, Message::Exec(exec_id)).await?;
        scope.commit().await?;

        let exec = ExecRef { tenant_id, session_id, exec_id };
        let sent = self.send_exec(exec, &outgoing, open_work < MAX_WORK_AHEAD).await;
        if let Err(error) = sent
            && self.take_back(caller, exec_id).await?
        {
            return Err(AppError::TemporalUnavailable(error));
        }
        self.wait(caller, exec_id, session_id, request.wait_ms).await
    }

    /// Tells an exec's workflow of it, and where it may go `ahead`, its executor. Where Temporal is
    /// not known to answer, that has to be seen first: without it nothing starts.
    async fn send_exec(
        &self,
        exec: ExecRef,
        outgoing: &Outgoing,
        ahead: bool,
    ) -> Result<(), DispatchError> {
        if ahead && self.dispatcher.is_answered() {
            return tokio::join!(self.dispatcher.send(outgoing), self.hand_over(exec)).0;
        }
        self.dispatcher.send(outgoing).await?;
        if ahead {
            self.hand_over(exec).await;
        }
        Ok(())
    }

    /// Makes sure that an exec whose message did not arrive never runs, whatever Temporal got.
    ///
    /// Returns false when it may run already; the message stays in the outbox until it arrives.
    async fn take_back(&self, caller: &Caller, exec_id: ExecId) -> Result<bool, AppError> {
        let mut scope = caller.open(self, Operation::Work).await?;
        let exec = scope.lock_exec(exec_id).await?;
        if exec.state.is_terminal() || exec.may_have_started() {
            return Ok(false);
        }
        let error = ExecError {
            code: "temporal_unavailable".into(),
            message: "Temporal did not answer when it was submitted".into(),
        };
        // The caller may try again under the same key: this request never came to be.
        scope.release_keys(&exec_id.to_string()).await?;
        closing::settle_with(&mut scope, &exec, ExecOutcome::Cancelled, Some(&error))
            .await
            .map_err(AppError::internal)?;
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

    /// One exec, as soon as it is over or `wait_ms` have passed.
    ///
    /// # Errors
    /// When the caller may not, there is no such exec, or the wait is too long.
    pub async fn wait_for_exec(
        &self,
        caller: &Caller,
        id: ExecId,
        wait_ms: u64,
    ) -> Result<Exec, AppError> {
        check_wait(wait_ms)?;
        let exec = self.get_exec(caller, id).await?;
        if wait_ms == 0 || exec.state.is_terminal() {
            return Ok(exec);
        }
        Ok(self.wait(caller, id, exec.session_id, wait_ms).await?.exec)
    }

    /// One exec.
    ///
    /// # Errors
    /// When the caller may not or there is no such exec.
    pub async fn get_exec(&self, caller: &Caller, id: ExecId) -> Result<Exec, AppError> {
        let mut scope = caller.open(self, Operation::ReadWork).await?;
        let mut exec = scope.get_exec(id).await.map_err(AppError::of("exec"))?;
        explain_waiting(&mut scope, std::slice::from_mut(&mut exec)).await?;
        Ok(exec)
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
        scope.append_audit(entry);
        let outgoing = scope.promise(exec.session_id, Message::CancelExec(id)).await?;
        scope.commit().await?;
        if exec.may_have_started() {
            self.cancel_at_executor(caller, &exec);
        }
        if let Err(error) = self.dispatcher.send(&outgoing).await {
            tracing::warn!(%error, exec_id = %id, "cancel stays in the outbox");
        }
        self.get_exec(caller, id).await
    }
}

/// Says of execs of one session that they wait for an executor that does not answer. Nobody writes
/// that down: what is to be seen to is the executor, and not each of its execs.
pub(crate) async fn explain_waiting(
    scope: &mut Scope,
    execs: &mut [Exec],
) -> Result<(), StoreError> {
    let Some(waiting) = execs.iter().find(|exec| exec.waits_for_start()) else { return Ok(()) };
    if scope.is_executor_silent(waiting.session_id).await? {
        for exec in execs.iter_mut().filter(|exec| exec.waits_for_start()) {
            exec.waiting_reason = Some(SILENT.to_owned());
        }
    }
    Ok(())
}

/// What a terminal's size may be.
pub(super) const TERMINAL_SIZES: &str = "a terminal has 1 to 1000 rows and 1 to 1000 cols";

/// Whether a terminal may have this size.
pub(super) fn is_terminal_size(size: TerminalSize) -> bool {
    (1..=1000).contains(&size.rows) && (1..=1000).contains(&size.cols)
}

fn check(request: &SubmitExec) -> Result<(), AppError> {
    checks::check_command(&request.command)?;
    if let Some(cwd) = &request.cwd {
        checks::check_cwd(cwd)?;
    }
    checks::check_env(&request.env)?;
    if request.stdin.is_some() && (request.stdin_open || request.terminal.is_some()) {
        return Err(AppError::invalid(
            "invalid_stdin",
            "stdin is for commands whose input is known beforehand; with stdin_open or tty, send it \
             to POST /v1/execs/{id}/stdin",
        ));
    }
    if request.terminal.is_some_and(|size| !is_terminal_size(size)) {
        return Err(AppError::invalid("invalid_tty", TERMINAL_SIZES));
    }
    if request.stdin.as_ref().is_some_and(|stdin| stdin.len() > limits::MAX_STDIN_BYTES) {
        return Err(AppError::TooLarge {
            code: "stdin_too_large",
            message: format!("stdin is over {} bytes", limits::MAX_STDIN_BYTES),
        });
    }
    let timeout_ms = request.timeout_ms();
    if !(1..=limits::MAX_TIMEOUT_MS).contains(&timeout_ms) {
        let max = limits::MAX_TIMEOUT_MS;
        return Err(AppError::invalid(
            "invalid_timeout",
            format!("timeout_ms must be between 1 and {max}"),
        ));
    }
    check_wait(request.wait_ms)
}

fn check_wait(wait_ms: u64) -> Result<(), AppError> {
    if wait_ms > limits::MAX_WAIT_MS {
        let max = limits::MAX_WAIT_MS;
        return Err(AppError::invalid("invalid_wait", format!("wait_ms must be at most {max}")));
    }
    Ok(())
}
