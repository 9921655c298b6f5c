//! Following one exec to its end: its output byte for byte as it comes, its approval as it waits.
//!
//! Events say when to look; what is true is asked for. A poll every second stands in for events
//! that do not come.

use std::time::Duration;

use anyhow::{Result, bail};
use domain::exec::ExecState;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Client, ClientError, Event, Exec, Stream};
use crate::console;
use crate::quoting::quote;

const POLL: Duration = Duration::from_secs(1);
/// The same for a command with a terminal: somebody waits for what a key did.
const TERMINAL_POLL: Duration = Duration::from_millis(100);
/// Between two looks for the rest of a finished command's output.
const REST_POLL: Duration = Duration::from_millis(50);
/// How long the rest of a finished command's output may take to arrive.
const REST_LIMIT: Duration = Duration::from_secs(15);
/// How long the control plane may be away while we wait.
const OUTAGE_LIMIT: Duration = Duration::from_secs(120);

/// Follows one exec.
pub(crate) struct ExecFollower<'a> {
    client: &'a Client,
    exec: Exec,
    show: bool,
    offsets: [u64; 2],
    told_approval: bool,
    told_lost: [bool; 2],
    told_waiting: Option<String>,
    outage_since: Option<Instant>,
}

impl<'a> ExecFollower<'a> {
    /// Follows `exec` from what is known of it; `show` passes its output on.
    pub(crate) fn new(client: &'a Client, exec: Exec, show: bool) -> Self {
        Self {
            client,
            exec,
            show,
            offsets: [0; 2],
            told_approval: false,
            told_lost: [false; 2],
            told_waiting: None,
            outage_since: None,
        }
    }

    /// What is known of the exec.
    pub(crate) fn exec(&self) -> &Exec {
        &self.exec
    }

    /// Returns the finished exec, all of its output passed on.
    pub(crate) async fn follow(&mut self) -> Result<Exec> {
        // From the session's beginning: cheap in a fresh session, and older events of other execs
        // are skipped over in an old one while the poll goes on.
        let mut events = self.client.events(&self.exec.session_id, 0);
        let mut events_work = true;
        let poll = if self.exec.tty.is_some() { TERMINAL_POLL } else { POLL };
        while !self.exec.state.is_terminal() {
            self.tell_approval();
            self.tell_waiting();
            self.copy_output().await?;
            let wait = async {
                while events_work {
                    match events.next().await {
                        Ok(event) if self.concerns_us(&event) => return,
                        Ok(_) => {}
                        // The poll below goes on and reports what is wrong, if it is.
                        Err(_) => events_work = false,
                    }
                }
                sleep(poll).await;
            };
            // Elapsed or not, it is time to look.
            let _ = timeout(poll, wait).await;
            self.refresh().await?;
        }
        self.copy_rest().await?;
        Ok(self.exec.clone())
    }

    fn concerns_us(&self, event: &Event) -> bool {
        event.kind.starts_with("exec.") && event.text("exec_id") == self.exec.exec_id
    }

    async fn refresh(&mut self) -> Result<()> {
        let answer = self.client.get_exec(&self.exec.exec_id).await;
        if let Some(exec) = self.unless_away(answer)? {
            self.exec = exec;
        }
        Ok(())
    }

    /// Passes over a control plane that is away for a while: the command runs on without it.
    fn unless_away<T>(&mut self, answer: Result<T, ClientError>) -> Result<Option<T>> {
        match answer {
            Ok(value) => {
                self.outage_since = None;
                Ok(Some(value))
            }
            Err(problem) if problem.is_transient() => {
                let since = self.outage_since.get_or_insert_with(|| {
                    console::say(format_args!("{problem}; the command runs on, still trying"));
                    Instant::now()
                });
                if since.elapsed() > OUTAGE_LIMIT { Err(problem.into()) } else { Ok(None) }
            }
            Err(problem) => Err(problem.into()),
        }
    }

    fn tell_approval(&mut self) {
        let Some(id) = self.exec.approval_id.as_ref() else { return };
        if self.exec.state == ExecState::PendingApproval && !self.told_approval {
            self.told_approval = true;
            console::say(format_args!("waiting for approval {id}; a reviewer decides it with"));
            console::say(format_args!("    bulkhead approvals approve {}", quote(id)));
            console::say(format_args!("    bulkhead approvals deny {}", quote(id)));
        }
    }

    /// Says what keeps the command from starting, once for each reason.
    fn tell_waiting(&mut self) {
        let reason = self.exec.rest.get("waiting_reason").and_then(|reason| reason.as_str());
        if let Some(reason) = reason.filter(|reason| self.told_waiting.as_deref() != Some(*reason))
        {
            console::say(format_args!("waiting: {reason}"));
            self.told_waiting = Some(reason.to_owned());
        }
    }

    /// Passes on what is there now; true when both streams are complete.
    async fn copy_output(&mut self) -> Result<bool> {
        if !self.show || matches!(self.exec.state, ExecState::PendingApproval | ExecState::Queued) {
            return Ok(!self.show);
        }
        let mut complete = true;
        for (at, stream) in Stream::ALL.into_iter().enumerate() {
            complete &= self.copy_stream(at, stream).await?;
        }
        Ok(complete)
    }

    async fn copy_stream(&mut self, at: usize, stream: Stream) -> Result<bool> {
        loop {
            let offset = self.offsets[at];
            let answer = self.client.output_part(&self.exec.exec_id, stream, offset).await;
            let Some(part) = self.unless_away(answer)? else { return Ok(false) };
            console::write_stream(stream, &part.bytes)?;
            self.offsets[at] += part.bytes.len() as u64;
            if self.offsets[at] >= part.total {
                return Ok(part.complete);
            }
            if part.bytes.is_empty() {
                if let Some(lost) = &part.lost {
                    if !std::mem::replace(&mut self.told_lost[at], true) {
                        console::say(format_args!("{}: {lost}", stream.as_str()));
                    }
                    return Ok(true);
                }
                if part.complete {
                    let missing = part.total - self.offsets[at];
                    console::say(format_args!(
                        "{}: {missing} bytes beyond the limit were not kept",
                        stream.as_str()
                    ));
                }
                return Ok(part.complete);
            }
        }
    }

    /// The end may be known a little before the last bytes are.
    async fn copy_rest(&mut self) -> Result<()> {
        let never_ran = matches!(self.exec.state, ExecState::Denied);
        let nothing = self.exec.stdout.bytes_total + self.exec.stderr.bytes_total == 0;
        let uncertain = matches!(self.exec.state, ExecState::Lost | ExecState::Cancelled);
        if !self.show || never_ran || (nothing && self.exec.state == ExecState::Exited) {
            return Ok(());
        }
        let deadline = Instant::now() + REST_LIMIT;
        while !self.copy_output().await? {
            if uncertain {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the end of the output did not arrive within {} s", REST_LIMIT.as_secs());
            }
            sleep(REST_POLL).await;
        }
        Ok(())
    }
}
