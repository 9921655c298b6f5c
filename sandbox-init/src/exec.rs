//! One command from its start until the executor has its result.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use domain::ids::ExecId;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, read, write};
use protocol::init::{Exit, FromInit, Start, StartFailure, Stdin, Stream};

use crate::process::{self, Child};
use crate::shepherd::STATUS_BYTES;
use crate::stream::OutputStream;
use crate::tree;

/// How long until it is seen whether a kill left anything, and how often it is then repeated: five
/// seconds in all. What lives on is stuck in the kernel.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);
const MAX_SWEEPS: u32 = 500;

/// See the module.
pub(crate) struct Exec {
    exec_id: ExecId,
    shepherd: Pid,
    /// Where the shepherd tells the wait status; closed when it has.
    status: Option<OwnedFd>,
    started: Instant,
    grace: Duration,
    /// When the next signal is due: SIGTERM first, SIGKILL after the grace, and again.
    due: Option<Instant>,
    ending: Option<Ending>,
    sweeps: u32,
    /// The shepherd ended, and with it everything that the command started.
    gone: bool,
    exit: Option<Exit>,
    stdin: Option<Input>,
    streams: [OutputStream; 2],
    exit_sent: bool,
}

/// Why a command is being ended.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    TimedOut,
    Cancelled,
}

struct Input {
    pipe: OwnedFd,
    bytes: Vec<u8>,
    written: usize,
}

impl Exec {
    /// Starts a command.
    ///
    /// # Errors
    /// Says why it could not be started.
    pub(crate) fn start(start: Start, now: Instant) -> Result<Self, StartFailure> {
        let Child { shepherd, status, stdin, output } = process::spawn(&start)?;
        let stdin = match (stdin, start.stdin) {
            (Some(pipe), Stdin::Bytes(bytes)) => Some(Input { pipe, bytes, written: 0 }),
            _ => None,
        };
        Ok(Self {
            exec_id: start.exec_id,
            shepherd,
            status: Some(status),
            started: now,
            grace: Duration::from_millis(start.grace_ms),
            due: Some(now + Duration::from_millis(start.timeout_ms)),
            ending: None,
            sweeps: 0,
            gone: false,
            exit: None,
            stdin,
            streams: output.map(OutputStream::new),
            exit_sent: false,
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
        self.due.filter(|_| !self.is_settled())
    }

    /// Ends the command when its time is over; kills it when it did not listen.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.end(Ending::TimedOut, now);
        }
    }

    /// Ends the command because somebody called it off.
    pub(crate) fn cancel(&mut self, now: Instant) {
        if self.exit.is_none() && self.ending.is_none() {
            self.end(Ending::Cancelled, now);
        }
    }

    fn end(&mut self, why: Ending, now: Instant) {
        if self.ending.is_none() {
            self.ending = Some(why);
            tree::signal_all(self.shepherd, Signal::SIGTERM);
            self.due = Some(now + self.grace);
        } else {
            self.sweeps += 1;
            tree::kill_all(self.shepherd);
            self.due = Some(now + SWEEP_PAUSE);
        }
    }

    /// Whether nothing more is to be done about the command's processes. What a command that ended
    /// by itself left behind may live on; after an order to stop, nothing may.
    fn is_settled(&self) -> bool {
        let swept = self.ending.is_none() || self.gone || self.sweeps >= MAX_SWEEPS;
        self.exit.is_some() && swept
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
        self.stdin = None;
        for stream in &mut self.streams {
            stream.command_ended();
        }
    }

    /// Descriptors that could be read, with their numbers.
    pub(crate) fn readable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let streams = self.streams.iter().filter(|stream| !stream.is_drained());
        streams.filter_map(OutputStream::wants_read).chain(self.status.as_ref().map(AsFd::as_fd))
    }

    /// The standard input, while it has bytes to take.
    pub(crate) fn writable(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().map(|input| input.pipe.as_fd())
    }

    /// Reads from the pipe behind this descriptor, if it is one of ours.
    pub(crate) fn read_fd(&mut self, fd: i32, now: Instant) {
        if self.status.as_ref().is_some_and(|status| status.as_raw_fd() == fd) {
            self.read_status(now);
            return;
        }
        for stream in &mut self.streams {
            if stream.raw_fd() == Some(fd) {
                stream.read_once();
            }
        }
    }

    /// Reads what is there, after the command's end.
    pub(crate) fn drain_if_ended(&mut self) {
        if self.exit.is_none() {
            return;
        }
        for stream in &mut self.streams {
            while !stream.is_drained() && stream.wants_read().is_some() {
                stream.read_once();
            }
        }
    }

    /// Gives the command more of its input; closes it after the last byte.
    pub(crate) fn feed(&mut self) {
        let Some(input) = &mut self.stdin else { return };
        match write(&input.pipe, &input.bytes[input.written..]) {
            Ok(count) => input.written += count,
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            Err(_) => input.written = input.bytes.len(),
        }
        if input.written == input.bytes.len() {
            self.stdin = None;
        }
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
        self.exit_sent = false;
    }

    /// The next frame about this exec, if there is something to say.
    pub(crate) fn next_frame(&mut self) -> Option<FromInit> {
        let exec_id = self.exec_id;
        for stream in Stream::BOTH {
            if let Some((offset, bytes)) = self.streams[stream.index()].next_chunk() {
                return Some(FromInit::Output { exec_id, stream, offset, bytes });
            }
        }
        let complete = self.streams.iter().all(|stream| stream.is_drained() && stream.is_sent());
        let exit = self.exit.filter(|_| complete && self.is_settled() && !self.exit_sent)?;
        self.exit_sent = true;
        let totals = [self.streams[0].total(), self.streams[1].total()];
        Some(FromInit::Exited { exec_id, exit, totals })
    }

    /// The pipes of a finished command, which processes left behind may still write to.
    pub(crate) fn into_pipes(self) -> impl Iterator<Item = OwnedFd> {
        self.streams.into_iter().filter_map(OutputStream::into_pipe)
    }
}
