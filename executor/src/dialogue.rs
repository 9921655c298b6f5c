//! The dialogue with PID 1 about one exec: start or attach, take output, acknowledge, pass on what
//! clients want of it, cancel, hear the end. Outlives connections; trusts frames only on a
//! connection that it has attached by.

use std::pin::pin;
use std::time::Duration;

use domain::ids::ExecId;
use domain::limits::KILL_GRACE_MS;
use protocol::init::{Exit, FromInit, StartFailure, Stream, ToInit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::failpoint;
use crate::frames::{Bytes, Heard, Piece};
use crate::interaction::{Interaction, Means, Wishes};
use crate::journal::Entry;
use crate::run::Job;
use crate::sandbox::{Connection, Ear};
use crate::ship::Parcel;
use crate::spool::{BATCH_BYTES, OutputSink, SpoolError};
use crate::window::SharedWindow;

/// How long after a command's time is over PID 1 may still take to report its end.
const REPORT_MARGIN: Duration = Duration::from_secs(60);
/// How long after it Docker is asked whether PID 1 is able to.
const PAUSE_MARGIN: Duration = Duration::from_millis(300);

/// Waits until something of a stream is kept; for ever, while nothing is being written.
async fn next_kept(sinks: &mut [OutputSink; 2]) -> (Stream, Result<Option<u64>, SpoolError>) {
    let [stdout, stderr] = sinks;
    let (writes_stdout, writes_stderr) = (stdout.is_writing(), stderr.is_writing());
    tokio::select! {
        kept = stdout.written(), if writes_stdout => (Stream::Stdout, kept),
        kept = stderr.written(), if writes_stderr => (Stream::Stderr, kept),
        else => std::future::pending().await,
    }
}

/// How the dialogue ended.
pub(crate) enum Ending {
    /// The command ended, and all of its output is here.
    Exit { exit: Exit, totals: [u64; 2], unended: u32 },
    /// PID 1 could not start it.
    Refused(StartFailure),
    /// PID 1 never got the start, and nobody here has the order, or it was called off.
    NeverStarted,
    /// The sandbox is gone.
    Vanished,
    /// PID 1 broke its promise: it should have reported the end long ago, or says what cannot be.
    /// Asking it again would bring the same.
    Untrue,
}

/// See the module.
pub(crate) struct Dialogue<'a> {
    exec_id: ExecId,
    boot_id: u64,
    cancel: &'a CancellationToken,
    /// When the command's time is over, and that of its grace.
    over: Instant,
    ear: Ear,
    sinks: [OutputSink; 2],
    /// Where PID 1 shares a stream's window on this connection.
    windows: [Option<SharedWindow>; 2],
    interaction: Interaction,
    /// The frame that starts it, while it may be started.
    start: Option<ToInit>,
    /// The first thing to say is the start itself.
    fresh: bool,
    unknown_before: bool,
    connection: Option<Connection>,
    /// Processes that PID 1 could not end.
    unended: u32,
    /// PID 1 has answered on this connection: what follows is in order, from where we are.
    attached: bool,
}

impl<'a> Dialogue<'a> {
    /// A command that the journal has just been told of.
    pub(crate) fn new(
        job: &'a Job,
        entry: &Entry,
        start: Option<ToInit>,
        ear: Ear,
        sinks: [OutputSink; 2],
        wishes: Wishes,
    ) -> Self {
        let means = Means { input: entry.stdin_open, terminal: entry.terminal };
        let fresh = start.is_some();
        let elapsed_ms = now_ms().saturating_sub(entry.started_at_ms);
        let left_ms = entry.timeout_ms.saturating_sub(elapsed_ms).saturating_add(KILL_GRACE_MS);
        Self {
            exec_id: job.exec_id,
            boot_id: entry.boot_id,
            cancel: &job.cancel,
            over: Instant::now() + Duration::from_millis(left_ms),
            ear,
            sinks,
            windows: [None, None],
            interaction: Interaction::new(job.exec_id, means, wishes),
            start,
            fresh,
            unknown_before: false,
            connection: None,
            unended: 0,
            attached: false,
        }
    }

    /// A command that may have been started before.
    pub(crate) fn resume(
        job: &'a Job,
        entry: &Entry,
        start: Option<ToInit>,
        ear: Ear,
        sinks: [OutputSink; 2],
        wishes: Wishes,
    ) -> Self {
        Self { fresh: false, ..Self::new(job, entry, start, ear, sinks, wishes) }
    }

    /// Whether the command has certainly not been started yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// What was heard of the command's output.
    pub(crate) fn sinks(&self) -> &[OutputSink; 2] {
        &self.sinks
    }

    /// Talks until the end is known, and everything of the output. `parcel` is told when the command
    /// is known to run.
    pub(crate) async fn run(&mut self, parcel: &Parcel) -> Result<Ending, SpoolError> {
        let talked = self.talk(parcel).await;
        // Also after a failure: who opens the files again must not meet a write that is on its way.
        let [stdout, stderr] = &mut self.sinks;
        let settled = (stdout.settle().await, stderr.settle().await);
        let ending = talked.or_else(|error| {
            if !error.is_of_pid_1() {
                return Err(error);
            }
            let error = &error as &dyn std::error::Error;
            tracing::error!(exec = %self.exec_id, error, "PID 1 says what cannot be");
            Ok(Ending::Untrue)
        })?;
        settled.0?;
        settled.1?;
        Ok(ending)
    }

    async fn talk(&mut self, parcel: &Parcel) -> Result<Ending, SpoolError> {
        let mut cancelled = false;
        let mut paused = pin!(self.ear.wait_for_pause(self.over + PAUSE_MARGIN));
        if let Some(ending) = self.follow_presence() {
            return Ok(ending);
        }
        loop {
            // Without room nothing is heard of the command's output and end, but everything else.
            let has_room = self.sinks.iter().all(OutputSink::has_room);
            tokio::select! {
                biased;
                // Once, however much the command prints.
                () = self.cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    self.send_cancel();
                    let soon = Instant::now() + Duration::from_millis(KILL_GRACE_MS);
                    self.over = self.over.min(soon);
                    paused.set(self.ear.wait_for_pause(self.over + PAUSE_MARGIN));
                }
                // Frames before presence: what PID 1 said before it died must not be lost.
                heard = self.ear.frames.next(), if has_room => {
                    if let Some(ending) = self.hear(heard, parcel).await? {
                        return Ok(ending);
                    }
                }
                (stream, kept) = next_kept(&mut self.sinks) => {
                    self.acknowledge(stream, kept?);
                    let counted = self.sinks[stream.index()].keep()?;
                    self.acknowledge(stream, counted);
                }
                _ = self.ear.presence.changed(), if has_room => {
                    if let Some(ending) = self.follow_presence() {
                        return Ok(ending);
                    }
                }
                wish = self.interaction.next() => {
                    let frame = self.interaction.begin(wish);
                    self.send_any(frame);
                }
                // It would not report for as long as that lasts; what is true now is that it is lost.
                () = &mut paused => return Ok(Ending::Untrue),
                () = tokio::time::sleep_until(self.over + REPORT_MARGIN) => {
                    tracing::error!(exec = %self.exec_id, "PID 1 says nothing of its end");
                    return Ok(Ending::Untrue);
                }
            }
        }
    }

    /// A new connection: say who we are. A gone sandbox: the end.
    fn follow_presence(&mut self) -> Option<Ending> {
        let presence = self.ear.presence.borrow_and_update().clone();
        if presence.is_gone() {
            return Some(Ending::Vanished);
        }
        let Some(connection) = presence.connection else {
            self.interaction.detached();
            return None;
        };
        if connection.boot_id != self.boot_id {
            return Some(Ending::Vanished);
        }
        if self.connection.as_ref().is_some_and(|old| old.epoch == connection.epoch) {
            return None;
        }
        if self.fresh && self.cancel.is_cancelled() {
            return Some(Ending::NeverStarted);
        }
        self.attached = false;
        self.windows = [None, None];
        self.interaction.detached();
        connection.send(match &self.start {
            Some(start) if std::mem::take(&mut self.fresh) => start.clone(),
            _ => {
                let have = [self.sinks[0].bytes_owned(), self.sinks[1].bytes_owned()];
                ToInit::Attach { exec_id: self.exec_id, have }
            }
        });
        failpoint::hit("start_sent");
        self.connection = Some(connection);
        None
    }

    async fn hear(&mut self, heard: Heard, parcel: &Parcel) -> Result<Option<Ending>, SpoolError> {
        if self.connection.as_ref().is_none_or(|connection| connection.epoch != heard.epoch) {
            return Ok(None);
        }
        match heard.frame {
            FromInit::Started { again, .. } => {
                failpoint::hit("started_heard");
                self.attached = true;
                parcel.mark_started();
                let frame = self.interaction.attached(!again);
                self.send_any(frame);
                if self.cancel.is_cancelled() {
                    self.send_cancel();
                }
            }
            FromInit::Failed { why, .. } => return Ok(Some(Ending::Refused(why))),
            FromInit::Unknown { .. } => return Ok(self.start_again()),
            // Before the answer come pieces from where an earlier connection had stopped.
            FromInit::Output { .. }
            | FromInit::Share { .. }
            | FromInit::Shared { .. }
            | FromInit::Unended { .. }
            | FromInit::Exited { .. }
                if !self.attached => {}
            frame @ (FromInit::Output { .. } | FromInit::Shared { .. }) => {
                if let Ok(piece) = Piece::of(frame) {
                    self.take_output(heard.epoch, piece).await?;
                }
            }
            FromInit::Share { stream, .. } => {
                let window = heard.descriptor.and_then(SharedWindow::accept);
                if window.is_some() {
                    self.send(ToInit::SeeWindow { exec_id: self.exec_id, stream });
                }
                self.windows[stream.index()] = window;
            }
            FromInit::Exited { exit, totals, .. } => {
                failpoint::hit("exit_heard");
                for (sink, total) in self.sinks.iter().zip(totals) {
                    if sink.bytes_received() != total {
                        tracing::error!(exec = %self.exec_id, total,
                            received = sink.bytes_received(), "output is incomplete");
                    }
                }
                return Ok(Some(Ending::Exit { exit, totals, unended: self.unended }));
            }
            FromInit::Unended { processes, .. } => self.unended = processes,
            FromInit::StdinTaken { offset, open, .. } => {
                let frame = self.interaction.stdin_taken(offset, open);
                self.send_any(frame);
            }
            FromInit::Signalled { delivered, .. } => self.interaction.signalled(delivered),
            FromInit::Hello { .. } => {}
        }
        Ok(None)
    }

    /// Takes a piece and what waits behind it.
    async fn take_output(&mut self, epoch: u64, first: Piece) -> Result<(), SpoolError> {
        let (mut next, mut count) = (Some(first), 0);
        while let Some(Piece { stream, offset, bytes }) = next {
            count += bytes.len();
            let sink = &mut self.sinks[stream.index()];
            match (bytes, &self.windows[stream.index()]) {
                (Bytes::Here(bytes), _) => sink.take(offset, bytes)?,
                (Bytes::Shared(length), Some(window)) => {
                    sink.take_shared(window, offset, length)?;
                    failpoint::hit("window_read");
                }
                // Nobody said that there is one.
                (Bytes::Shared(_), None) => return Err(SpoolError::NoWindow),
            }
            let more = count < BATCH_BYTES;
            next = if more { self.ear.frames.next_output(epoch) } else { None };
        }
        for stream in Stream::BOTH {
            let kept = self.sinks[stream.index()].keep()?;
            self.acknowledge(stream, kept);
        }
        failpoint::hit("output_taken");
        Ok(())
    }

    /// Tells PID 1 what it may give up, if there is more of it.
    fn acknowledge(&self, stream: Stream, kept: Option<u64>) {
        if let Some(offset) = kept {
            failpoint::hit("output_kept");
            self.send(ToInit::Ack { exec_id: self.exec_id, stream, offset });
        }
    }

    /// PID 1 does not know it. The same PID 1 as ever, so it never got the start: it may have it
    /// now, unless it was called off. A second time, it did get it and has forgotten it, and nothing
    /// true is left to say.
    fn start_again(&mut self) -> Option<Ending> {
        if std::mem::replace(&mut self.unknown_before, true) {
            return Some(Ending::Vanished);
        }
        let start = self.start.clone().filter(|_| !self.cancel.is_cancelled());
        let Some(start) = start else { return Some(Ending::NeverStarted) };
        self.send(start);
        None
    }

    fn send_cancel(&self) {
        self.send(ToInit::Cancel { exec_id: self.exec_id });
    }

    fn send_any(&self, frame: Option<ToInit>) {
        if let Some(frame) = frame {
            self.send(frame);
        }
    }

    fn send(&self, frame: ToInit) {
        if let Some(connection) = &self.connection {
            connection.send(frame);
        }
    }
}
