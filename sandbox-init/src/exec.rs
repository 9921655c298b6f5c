//! One command from its start until the executor has its result.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use domain::ids::ExecId;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, write};
use protocol::init::{Exit, FromInit, Start, StartFailure, Stream};

use crate::process::{self, Child};
use crate::stream::OutputStream;

/// See the module.
pub(crate) struct Exec {
    exec_id: ExecId,
    pid: Pid,
    started: Instant,
    grace: Duration,
    /// When the next signal is due: SIGTERM first, SIGKILL after the grace.
    due: Option<Instant>,
    ending: Option<Ending>,
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
        let Child { pid, stdin, output } = process::spawn(&start)?;
        let stdin = stdin.zip(start.stdin).map(|(pipe, bytes)| Input { pipe, bytes, written: 0 });
        Ok(Self {
            exec_id: start.exec_id,
            pid,
            started: now,
            grace: Duration::from_millis(start.grace_ms),
            due: Some(now + Duration::from_millis(start.timeout_ms)),
            ending: None,
            exit: None,
            stdin,
            streams: output.map(OutputStream::new),
            exit_sent: false,
        })
    }

    /// Whether `pid` is this command's leader and it has not ended yet.
    pub(crate) fn is_running(&self, pid: Pid) -> bool {
        self.pid == pid && self.exit.is_none()
    }

    /// When [`Exec::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.exit.is_none())
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
        let signal = match self.ending {
            None => Signal::SIGTERM,
            Some(_) => Signal::SIGKILL,
        };
        self.ending.get_or_insert(why);
        process::signal_tree(self.pid, signal);
        self.due = Some(now + self.grace);
    }

    /// The leader ended, as `waitpid` told.
    pub(crate) fn ended(&mut self, code: Option<i32>, signal: Option<i32>, now: Instant) {
        if self.ending.is_some() {
            // What it started and left behind in its session must not outlive the order to stop.
            process::signal_tree(self.pid, Signal::SIGKILL);
        }
        self.exit = Some(Exit {
            code,
            signal,
            timed_out: self.ending == Some(Ending::TimedOut),
            cancelled: self.ending == Some(Ending::Cancelled),
            duration_ms: u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX),
        });
        self.stdin = None;
        for stream in &mut self.streams {
            stream.command_ended();
        }
    }

    /// Descriptors that could be read, with their numbers.
    pub(crate) fn readable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams
            .iter()
            .filter(|stream| !stream.is_drained())
            .filter_map(OutputStream::wants_read)
    }

    /// The standard input, while it has bytes to take.
    pub(crate) fn writable(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().map(|input| input.pipe.as_fd())
    }

    /// Reads from the stream behind this descriptor, if it is one of ours.
    pub(crate) fn read_fd(&mut self, fd: i32) {
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
        let exit = self.exit.filter(|_| complete && !self.exit_sent)?;
        self.exit_sent = true;
        let totals = [self.streams[0].total(), self.streams[1].total()];
        Some(FromInit::Exited { exec_id, exit, totals })
    }

    /// The pipes of a finished command, which processes left behind may still write to.
    pub(crate) fn into_pipes(self) -> impl Iterator<Item = OwnedFd> {
        self.streams.into_iter().filter_map(OutputStream::into_pipe)
    }
}
