//! One command from its start until the executor has its result.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use domain::ids::ExecId;
use domain::limits::CANCEL_GRACE_MS;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, read};
use protocol::checks::Checks;
use protocol::init::{Exit, FromInit, Start, StartFailure, Stream, TerminalSize};

use crate::link::{Outgoing, Output};
use crate::process::{self, Child};
use crate::shepherd::STATUS_BYTES;
use crate::stdin::Input;
use crate::stdio::Ours;
use crate::stream::{Next, OutputStream};
use crate::window::Allowance;
use crate::{helper, terminal, tree};

/// How long after its command the shepherd may still be there before it is looked for what the
/// command left behind. It takes about 0.1 ms to end.
const SHEPHERD_PAUSE: Duration = Duration::from_millis(3);
/// Longest time from SIGTERM to SIGKILL of a command that was called off.
const CANCEL_GRACE: Duration = Duration::from_millis(CANCEL_GRACE_MS);
/// How long processes that were left behind have from SIGTERM to SIGKILL.
const SURVIVOR_GRACE: Duration = Duration::from_millis(200);
/// How long until it is seen whether a kill left anything, and how often it is then repeated: five
/// seconds in all. What lives on is stuck in the kernel.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);
const MAX_SWEEPS: u32 = 500;
/// How many of these pauses the shepherd has for its dead when nothing seems to live.
const MAX_BURIALS: u32 = 50;
/// Signals have numbers up to this.
const MAX_SIGNAL: i32 = 64;

/// See the module.
pub(crate) struct Exec {
    exec_id: ExecId,
    /// It does work on files for a call to the executor that started it, and for nobody else.
    is_of_a_call: bool,
    shepherd: Pid,
    /// Where the shepherd tells the wait status; closed when it has.
    status: Option<OwnedFd>,
    started: Instant,
    grace: Duration,
    /// When [`Exec::tick`] has its next step to do.
    due: Instant,
    ending: Option<Ending>,
    sweeps: u32,
    /// The shepherd ended, and with it everything that the command started.
    gone: bool,
    exit: Option<Exit>,
    stdin: Input,
    terminal: Option<OwnedFd>,
    streams: [OutputStream; 2],
    /// The stream that output was sent of last.
    last_sent: Stream,
    /// It was said that something of it cannot be ended, if that is so.
    unended_sent: bool,
    exit_sent: bool,
    forgotten: bool,
}

/// Why a command's processes are being ended.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    TimedOut,
    Cancelled,
    /// The command ended by itself and left them behind.
    LeftBehind,
}

impl Exec {
    /// Starts a command, if its sandbox passes `checks`.
    ///
    /// # Errors
    /// Says why it could not be started.
    pub(crate) fn start(
        start: Start,
        checks: &Checks,
        allowance: &Allowance,
        now: Instant,
    ) -> Result<Self, StartFailure> {
        let Child { shepherd, status, stdio } = process::spawn(&start, checks)?;
        let Ours { stdin, output, terminal } = stdio;
        Ok(Self {
            exec_id: start.exec_id,
            is_of_a_call: helper::is_of_a_call(&start.argv),
            shepherd,
            status: Some(status),
            started: now,
            grace: Duration::from_millis(start.grace_ms),
            due: now + Duration::from_millis(start.timeout_ms),
            ending: None,
            sweeps: 0,
            gone: false,
            exit: None,
            stdin,
            terminal,
            streams: output.map(|pipe| OutputStream::new(pipe, allowance)),
            last_sent: Stream::Stderr,
            unended_sent: false,
            exit_sent: false,
            forgotten: false,
        })
    }

    /// The process that the command's processes are below.
    pub(crate) fn shepherd(&self) -> Pid {
        self.shepherd
    }

    /// Whether `pid` is this command's shepherd and it has not ended yet.
    pub(crate) fn has_shepherd(&self, pid: Pid) -> bool {
        self.shepherd == pid && !self.gone
    }

    /// When [`Exec::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        Some(self.due).filter(|_| !self.is_settled())
    }

    /// Ends the command when its time is over, and what it left behind when it ended by itself;
    /// kills what did not listen.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        match self.ending {
            None if self.exit.is_none() => self.end(Ending::TimedOut, self.grace, now),
            None => self.end_survivors(now),
            Some(_) => {
                self.sweeps += 1;
                tree::kill_all(self.shepherd);
                self.due = now + SWEEP_PAUSE;
                if self.sweeps >= MAX_SWEEPS && self.exit.is_none() {
                    // The command's own first process is stuck. It will get no further than this.
                    self.ended(None, Some(Signal::SIGKILL as i32), now);
                    self.drain_if_ended();
                }
            }
        }
    }

    /// Ends the command because somebody called it off.
    pub(crate) fn cancel(&mut self, now: Instant) {
        if self.exit.is_none() && self.ending.is_none() {
            self.end(Ending::Cancelled, self.grace.min(CANCEL_GRACE), now);
        }
    }

    fn end(&mut self, why: Ending, grace: Duration, now: Instant) {
        self.ending = Some(why);
        tree::signal_all(self.shepherd, Signal::SIGTERM as i32);
        self.due = now + grace;
    }

    /// The command has ended, its shepherd has not.
    fn end_survivors(&mut self, now: Instant) {
        let survivors = tree::count_live(self.shepherd);
        if survivors == 0 {
            // The shepherd is slow, or has many dead to bury.
            self.sweeps += 1;
            if self.sweeps > MAX_BURIALS {
                // Or something lives that did not look so.
                tree::kill_all(self.shepherd);
            }
            self.due = now + SWEEP_PAUSE;
            return;
        }
        if let Some(exit) = &mut self.exit {
            exit.survivors = survivors;
        }
        self.end(Ending::LeftBehind, SURVIVOR_GRACE, now);
    }

    /// Sends a signal to all of the command's processes. Gives whether there were any.
    pub(crate) fn signal(&self, signal: i32) -> bool {
        let may = self.exit.is_none() && (1..=MAX_SIGNAL).contains(&signal);
        may && tree::signal_all(self.shepherd, signal) > 0
    }

    /// Gives the command's terminal another size, if it has one.
    pub(crate) fn resize(&self, size: TerminalSize) {
        if let Some(slave) = &self.terminal {
            let _ = terminal::resize(slave, size);
        }
    }

    /// Whether nothing more is to be done about the command's processes: nothing outlives it.
    fn is_settled(&self) -> bool {
        self.exit.is_some() && (self.gone || self.sweeps >= MAX_SWEEPS)
    }

    /// Another executor has come: no call is its own.
    pub(crate) fn change_executor(&mut self, now: Instant) {
        if self.is_of_a_call {
            self.forget(now);
        }
    }

    /// Nobody will ask for the result: a command that runs is called off.
    pub(crate) fn forget(&mut self, now: Instant) {
        self.forgotten = true;
        self.cancel(now);
    }

    /// Whether nobody will ask for the result.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Whether nothing of it is needed any more.
    pub(crate) fn is_over(&self) -> bool {
        self.forgotten && self.is_settled()
    }

    /// The shepherd ended. It told the status before, unless somebody killed it.
    pub(crate) fn shepherd_ended(&mut self, now: Instant) {
        self.gone = true;
        self.read_status(now);
        if self.exit.is_none() {
            self.ended(None, Some(Signal::SIGKILL as i32), now);
        }
    }

    /// Hears how the command's leader ended, if the shepherd has told.
    fn read_status(&mut self, now: Instant) {
        let Some(pipe) = &self.status else { return };
        let mut bytes = [0; STATUS_BYTES];
        match read(pipe, &mut bytes) {
            Ok(STATUS_BYTES) => {
                let status = i32::from_ne_bytes(bytes);
                match WaitStatus::from_raw(self.shepherd, status) {
                    Ok(WaitStatus::Exited(_, code)) => self.ended(Some(code), None, now),
                    Ok(WaitStatus::Signaled(_, signal, _)) => {
                        self.ended(None, Some(signal as i32), now);
                    }
                    // A real-time signal, which nix has no name for.
                    _ => self.ended(None, Some(status & 0x7f), now),
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // The shepherd was killed; its own end follows.
            Ok(_) | Err(_) => self.status = None,
        }
    }

    fn ended(&mut self, code: Option<i32>, signal: Option<i32>, now: Instant) {
        self.status = None;
        self.exit = Some(Exit {
            code,
            signal,
            timed_out: self.ending == Some(Ending::TimedOut),
            cancelled: self.ending == Some(Ending::Cancelled),
            duration_ms: u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX),
            survivors: 0,
        });
        self.stdin.close();
        if self.ending.is_none() {
            self.due = now + SHEPHERD_PAUSE;
        }
        for stream in &mut self.streams {
            stream.command_ended();
        }
    }

    /// Descriptors that could be read.
    pub(crate) fn readable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let streams = self.streams.iter().filter(|stream| !stream.is_drained());
        streams.filter_map(OutputStream::wants_read).chain(self.status.as_ref().map(AsFd::as_fd))
    }

    /// The standard input, and whether there is something to write to it. A command that is being
    /// ended gets nothing more: it may hold what would have to be waited for.
    pub(crate) fn stdin(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.stdin.watched().filter(|_| self.ending.is_none())
    }

    /// Reads, and feeds, what is behind the descriptors that reported something.
    pub(crate) fn wake(&mut self, ready: &[i32], now: Instant) {
        let is_ready = |fd: Option<i32>| fd.is_some_and(|fd| ready.contains(&fd));
        // The output comes first: what is known of its end depends on the command's.
        for stream in &mut self.streams {
            if is_ready(stream.raw_fd()) {
                stream.read();
            }
        }
        if is_ready(self.status.as_ref().map(AsRawFd::as_raw_fd)) {
            self.read_status(now);
        }
        if let Some(fd) = self.stdin().map(|(fd, _)| fd.as_raw_fd())
            && ready.contains(&fd)
        {
            self.stdin.wake();
        }
        self.drain_if_ended();
    }

    /// Reads what is there, after the command's end.
    pub(crate) fn drain_if_ended(&mut self) {
        if self.exit.is_some() {
            for stream in &mut self.streams {
                stream.read();
            }
        }
    }

    /// Takes input for the command. Gives how many bytes of it were taken in all, and whether more
    /// can come.
    pub(crate) fn offer(&mut self, offset: u64, bytes: &[u8], close: bool) -> (u64, bool) {
        // From nowhere, nothing is taken.
        let offset = if self.ending.is_none() { offset } else { u64::MAX };
        self.stdin.offer(offset, bytes, close)
    }

    /// The executor has output up to `offset`.
    pub(crate) fn acknowledge(&mut self, stream: Stream, offset: u64) {
        self.streams[stream.index()].acknowledge(offset);
    }

    /// A new connection takes the exec over from these offsets.
    pub(crate) fn resume_from(&mut self, have: [u64; 2]) {
        for (stream, have) in self.streams.iter_mut().zip(have) {
            stream.resume_from(have);
        }
        self.unended_sent = false;
        self.exit_sent = false;
    }

    /// Whether the executor reads windows that are shared with it.
    pub(crate) fn let_share(&mut self, may: bool) {
        self.streams.iter_mut().for_each(|stream| stream.let_share(may));
    }

    /// The executor sees the window of a stream that it was told of.
    pub(crate) fn window_is_seen(&mut self, stream: Stream) {
        self.streams[stream.index()].window_is_seen();
    }

    /// The next output to send, if there is any: of both streams by turns.
    pub(crate) fn next_output(&mut self) -> Option<Outgoing<'_>> {
        let exec_id = self.exec_id;
        let by_turns = match self.last_sent {
            Stream::Stdout => [Stream::Stderr, Stream::Stdout],
            Stream::Stderr => Stream::BOTH,
        };
        let stream =
            by_turns.into_iter().find(|stream| self.streams[stream.index()].has_unsent())?;
        self.last_sent = stream;
        Some(match self.streams[stream.index()].next()? {
            Next::Window(memory, inode) => {
                Outgoing::Frame(FromInit::Share { exec_id, stream, inode }, Some(memory))
            }
            Next::Shared { offset, length } => {
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                Outgoing::Frame(FromInit::Shared { exec_id, stream, offset, length }, None)
            }
            Next::Bytes { offset, parts } => {
                Outgoing::Output(Output { exec_id, stream, offset, parts })
            }
        })
    }

    /// The end, once, when all output was sent; before it, that it is not quite one.
    pub(crate) fn next_end(&mut self) -> Option<FromInit> {
        let complete = self.streams.iter().all(|stream| stream.is_drained() && stream.is_sent());
        let exit = self.exit.filter(|_| complete && self.is_settled() && !self.exit_sent)?;
        let exec_id = self.exec_id;
        if !self.gone && !std::mem::replace(&mut self.unended_sent, true) {
            // At least the shepherd itself.
            let processes = tree::count_live(self.shepherd).max(1);
            return Some(FromInit::Unended { exec_id, processes });
        }
        self.exit_sent = true;
        for stream in &mut self.streams {
            stream.close();
        }
        self.terminal = None;
        let totals = [self.streams[0].total(), self.streams[1].total()];
        Some(FromInit::Exited { exec_id, exit, totals })
    }
}
