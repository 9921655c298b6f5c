//! Passing our input on to a running exec. Every piece has its offset, so that a repeat after a
//! lost answer is taken once.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use domain::exec::ExecState;
use domain::limits::MAX_STDIN_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, sleep};

use crate::client::{Client, ClientError, InputTaken};

/// Bytes of one request.
const PIECE_BYTES: usize = 64 * 1024;
const _: () = assert!(PIECE_BYTES <= MAX_STDIN_BYTES);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one request waits for the exec to start.
const START_WAIT: Duration = Duration::from_millis(200);
/// How long an exec that runs may take nothing.
const STALL_LIMIT: Duration = Duration::from_secs(600);

/// Passes `from` on to the exec, from byte number `offset` of its input on, and closes it at the
/// end if `close`. Returns when nothing is left or the exec takes no more: its own end is no error.
///
/// # Errors
/// When `from` cannot be read, the exec takes no input at all, or nothing for ten minutes.
pub(crate) async fn forward(
    client: &Client,
    exec_id: &str,
    offset: u64,
    mut from: impl AsyncRead + Unpin,
    close: bool,
) -> Result<u64> {
    let mut feed = Feed { client, exec_id, offset };
    if !feed.wait_for_start().await? {
        return Ok(feed.offset);
    }
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut piece).await.context("cannot read stdin")?;
        if read == 0 {
            if close {
                feed.send(&[], true).await?;
            }
            return Ok(feed.offset);
        }
        if !feed.send(&piece[..read], false).await? {
            return Ok(feed.offset);
        }
    }
}

struct Feed<'a> {
    client: &'a Client,
    exec_id: &'a str,
    offset: u64,
}

impl Feed<'_> {
    /// Waits until the exec runs; false when it is over instead. Each try to send would be a line
    /// in the audit log, so that is no way to find out.
    async fn wait_for_start(&self) -> Result<bool> {
        loop {
            match self.client.get_exec(self.exec_id).await {
                Ok(exec) if exec.state == ExecState::Running => return Ok(true),
                Ok(exec) if exec.state.is_terminal() => return Ok(false),
                Ok(_) => sleep(START_WAIT).await,
                Err(problem) if problem.is_transient() => sleep(PAUSE).await,
                Err(problem) => return Err(problem.into()),
            }
        }
    }

    /// Sends all of `bytes`; false when the exec takes no more.
    async fn send(&mut self, mut bytes: &[u8], close: bool) -> Result<bool> {
        let mut deadline = Instant::now() + STALL_LIMIT;
        loop {
            let answer = self.client.send_input(self.exec_id, self.offset, bytes, close).await;
            match step(self.offset, bytes.len(), answer)? {
                Step::Over => return Ok(false),
                Step::Taken(count) => {
                    self.offset += count as u64;
                    bytes = &bytes[count..];
                    if bytes.is_empty() {
                        return Ok(true);
                    }
                    if count > 0 {
                        deadline = Instant::now() + STALL_LIMIT;
                    }
                }
                Step::Again => {}
            }
            if Instant::now() >= deadline {
                bail!("the command took none of its input for {} s", STALL_LIMIT.as_secs());
            }
            sleep(PAUSE).await;
        }
    }
}

/// What follows from one answer.
#[derive(Debug, PartialEq)]
enum Step {
    /// So many bytes were taken.
    Taken(usize),
    /// Nothing is known to be taken; ask again.
    Again,
    /// The exec takes no more.
    Over,
}

fn step(
    offset: u64,
    length: usize,
    answer: Result<InputTaken, ClientError>,
) -> Result<Step, ClientError> {
    match answer {
        Ok(taken) => {
            let end = offset + length as u64;
            let count = taken.offset.clamp(offset, end) - offset;
            let whole = taken.offset >= end;
            Ok(if whole || taken.open { Step::Taken(count as usize) } else { Step::Over })
        }
        Err(problem) if problem.is_transient() => Ok(Step::Again),
        Err(problem) => match problem.problem().map(|problem| problem.code.as_str()) {
            // It has just ended, or is about to be seen as ended.
            Some("exec_finished" | "exec_not_running") => Ok(Step::Over),
            _ => Err(problem),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ApiProblem;

    fn taken(offset: u64, open: bool) -> Result<InputTaken, ClientError> {
        Ok(InputTaken { offset, open })
    }

    fn problem(status: u16, code: &str) -> Result<InputTaken, ClientError> {
        let (code, title) = (code.to_owned(), String::new());
        Err(ApiProblem { status, code, title, detail: None }.into())
    }

    #[test]
    fn what_was_not_taken_is_sent_again() {
        assert_eq!(step(10, 5, taken(15, true)).expect("ok"), Step::Taken(5));
        assert_eq!(step(10, 5, taken(12, true)).expect("ok"), Step::Taken(2));
        assert_eq!(step(10, 5, taken(3, true)).expect("ok"), Step::Taken(0));
        assert_eq!(step(10, 5, problem(503, "executor_unavailable")).expect("ok"), Step::Again);
    }

    #[test]
    fn the_end_of_the_exec_ends_its_input() {
        assert_eq!(step(10, 5, taken(12, false)).expect("ok"), Step::Over);
        assert_eq!(step(10, 5, problem(409, "exec_finished")).expect("ok"), Step::Over);
        assert!(step(10, 5, problem(409, "exec_not_interactive")).is_err());
    }
}
