//! Input, signals and window sizes for execs that run.

use std::time::Instant;

use domain::access::Operation;
use domain::ids::ExecId;
use domain::limits::MAX_STDIN_BYTES;
use futures::stream;
use protocol::calls::{CallKind, CallReply};
use protocol::grant::hex;
use protocol::init::TerminalSize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::calls::too_many;
use super::submit_exec::{TERMINAL_SIZES, is_terminal_size};
use super::{App, AppError, Caller};
use crate::calls::{Bytes, Pieces};
use crate::store::Exec;

/// How long an executor may take, in milliseconds. A command that does not read its input is
/// waited for that long.
const TIMEOUT_MS: u64 = 10_000;

/// Input for an exec that runs.
pub struct SendInput {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Position of the first of them in all of the input; without it, after what came before.
    pub offset: Option<u64>,
    /// Nothing follows.
    pub close: bool,
}

/// How much input an exec has taken.
pub struct InputTaken {
    /// Bytes in all.
    pub offset: u64,
    /// Whether more can come.
    pub open: bool,
}

impl App {
    /// Sends input to an exec that was started with `stdin_open` or a terminal.
    ///
    /// # Errors
    /// When the caller may not, the exec does not run or takes no input, or its executor is away.
    pub async fn send_input(
        &self,
        caller: &Caller,
        exec_id: ExecId,
        input: SendInput,
    ) -> Result<InputTaken, AppError> {
        if input.bytes.len() > MAX_STDIN_BYTES {
            return Err(AppError::TooLarge {
                code: "stdin_too_large",
                message: format!("send at most {MAX_STDIN_BYTES} bytes of input at once"),
            });
        }
        let detail = json!({
            "bytes": input.bytes.len(), "sha256": hex(&Sha256::digest(&input.bytes)),
            "offset": input.offset, "close": input.close,
        });
        let takes_input = |exec: &Exec| exec.stdin_open;
        let exec = self.announce(caller, exec_id, "exec.stdin", detail, takes_input).await?;
        let what = CallKind::Stdin { exec_id, offset: input.offset, close: input.close };
        let body: Pieces = Box::pin(stream::iter([Ok(Bytes::from(input.bytes))]));
        match self.call(caller, exec.session_id, what, TIMEOUT_MS, Some(body)).await?.reply {
            CallReply::Stdin { offset, open } => match input.offset.filter(|at| *at > offset) {
                Some(at) if open => Err(AppError::Conflict {
                    code: "offset_past_end",
                    message: format!(
                        "the exec has taken {offset} bytes of input, and this begins at {at}: \
                         nothing of it was taken; send what lies between first"
                    ),
                }),
                _ => Ok(InputTaken { offset, open }),
            },
            other => Err(refusal(other)),
        }
    }

    /// Sends a signal, by number, to everything that an exec started.
    ///
    /// # Errors
    /// When the caller may not, the exec does not run, or its executor is away.
    pub async fn signal_exec(
        &self,
        caller: &Caller,
        exec_id: ExecId,
        signal: i32,
    ) -> Result<(), AppError> {
        let detail = json!({ "signal": signal });
        let exec = self.announce(caller, exec_id, "exec.signal", detail, |_| true).await?;
        let what = CallKind::Signal { exec_id, signal };
        match self.call(caller, exec.session_id, what, TIMEOUT_MS, None).await?.reply {
            CallReply::Done => Ok(()),
            other => Err(refusal(other)),
        }
    }

    /// Gives an exec's terminal another size.
    ///
    /// # Errors
    /// As [`App::signal_exec`]; when the size is not one, or there is no terminal.
    pub async fn resize_exec(
        &self,
        caller: &Caller,
        exec_id: ExecId,
        size: TerminalSize,
    ) -> Result<(), AppError> {
        if !is_terminal_size(size) {
            return Err(AppError::invalid("invalid_tty", TERMINAL_SIZES));
        }
        let detail = json!({ "rows": size.rows, "cols": size.cols });
        let has_terminal = |exec: &Exec| exec.terminal.is_some();
        let exec = self.announce(caller, exec_id, "exec.resize", detail, has_terminal).await?;
        let begun = Instant::now();
        let what = CallKind::Resize { exec_id, size };
        match self.call(caller, exec.session_id, what, TIMEOUT_MS, None).await?.reply {
            CallReply::Done => {}
            other => return Err(refusal(other)),
        }
        // For its recording, with the time before what the command did about it.
        let mut scope = caller.open(self, Operation::Work).await?;
        scope.insert_terminal_size(exec_id, size, begun.elapsed()).await?;
        Ok(scope.commit().await?)
    }

    /// Writes down what is about to be done to an exec that runs and `takes` it. Fails closed.
    async fn announce(
        &self,
        caller: &Caller,
        exec_id: ExecId,
        action: &'static str,
        detail: serde_json::Value,
        takes: impl FnOnce(&Exec) -> bool,
    ) -> Result<Exec, AppError> {
        let mut scope = caller.open(self, Operation::Work).await?;
        let exec = scope.get_exec(exec_id).await.map_err(AppError::of("exec"))?;
        check_runs(&exec)?;
        if !takes(&exec) {
            return Err(not_interactive());
        }
        let entry = caller.session_entry(action, exec_id.to_string(), exec.session_id, detail);
        scope.append_audit(entry);
        scope.commit().await?;
        Ok(exec)
    }
}

fn check_runs(exec: &Exec) -> Result<(), AppError> {
    if exec.state.is_terminal() {
        return Err(AppError::Conflict {
            code: "exec_finished",
            message: format!("the exec is over ({})", exec.state.as_str()),
        });
    }
    Ok(())
}

fn not_interactive() -> AppError {
    AppError::Conflict {
        code: "exec_not_interactive",
        message:
            "the exec has no open input, or no terminal: start it with stdin_open, or with tty"
                .into(),
    }
}

fn refusal(reply: CallReply) -> AppError {
    match reply {
        CallReply::NotRunning => AppError::Conflict {
            code: "exec_not_running",
            message: "the exec does not run: it waits to be started, or has just ended".into(),
        },
        CallReply::NotInteractive => not_interactive(),
        CallReply::Busy(message) => too_many(message),
        CallReply::Unavailable(message) => AppError::ExecutorUnavailable(message),
        _ => AppError::ExecutorUnavailable("the executor's answer makes no sense".into()),
    }
}
