//! One output stream of a command: a pipe, and a window of bytes that the executor does not have
//! yet. A full window stops the reading, which stops the command: back-pressure, not memory. The pipe
//! of a command that prints much is lent to the executor, if that takes pipes: what is in it is lost
//! with neither of them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use domain::limits::OUTPUT_HEAD_BYTES;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::uio::readv;
use protocol::init::{MAX_OUTPUT_CHUNK_BYTES, WIDE_WINDOW_BYTES};

use crate::window::{Allowance, Window};

/// A read of so many bytes is of a command that fills its pipe.
const FULL_BYTES: usize = 64 * 1024;
/// What the pipe of such a command is made to hold, in bytes. Not more, and not for every command:
/// what all sandboxes' pipes hold counts against one limit of the kernel, that of root.
const WIDE_PIPE_BYTES: i32 = 256 * 1024;

/// Streams that printed so much are worth a loan: as much as a window holds.
const LENT_FROM_BYTES: u64 = WIDE_WINDOW_BYTES as u64;

/// How much of its end a result shows.
const OUTPUT_TAIL_BYTES: u64 = OUTPUT_HEAD_BYTES as u64;

/// Who takes the bytes out of the pipe.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Loan {
    /// We do.
    None,
    /// We did; the executor does once it has everything that we took.
    Due,
    /// The executor does.
    Out {
        /// It was asked to give it back.
        reclaimed: bool,
    },
    /// We do, and will.
    Over,
}

/// See the module.
pub(crate) struct OutputStream {
    pipe: Option<OwnedFd>,
    /// Whether the pipe was widened, or could not be.
    widened: bool,
    loan: Loan,
    /// Whether the executor takes pipes.
    may_lend: bool,
    /// The executor keeps no more of it, and wants to know how much there is and how it ends.
    counts: bool,
    window: Window,
    /// Offset up to which bytes were sent on the current connection.
    sent: u64,
    /// Bytes that may still be read after the command's end: what can be in the pipe by then.
    last_bytes: Option<usize>,
}

impl OutputStream {
    /// A stream that reads `pipe`, which must not block; without one, an empty stream.
    pub(crate) fn new(pipe: Option<OwnedFd>, allowance: &Allowance) -> Self {
        let window = Window::new(allowance.clone());
        Self {
            pipe,
            widened: false,
            loan: Loan::None,
            may_lend: false,
            counts: false,
            window,
            sent: 0,
            last_bytes: None,
        }
    }

    /// Whether the executor of now takes pipes.
    pub(crate) fn allow_loan(&mut self, may_lend: bool) {
        self.may_lend = may_lend;
    }

    /// Whether we take bytes out of the pipe, and have room for them.
    fn may_read(&self) -> bool {
        matches!(self.loan, Loan::None | Loan::Over) && self.window.has_room()
    }

    /// The pipe, while there is room for what it gives.
    pub(crate) fn wants_read(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| self.may_read()).map(AsFd::as_fd)
    }

    /// Reads what is there, as far as there is room. Bytes keep their order; an end of file closes
    /// the pipe.
    pub(crate) fn read(&mut self) {
        // What is counted fills no window, and others want to be heard too.
        let mut left = if self.counts && self.last_bytes.is_none() { 8 } else { usize::MAX };
        while left > 0 && !self.is_drained() && self.may_read() && self.read_once() {
            self.forget_what_is_counted();
            left -= 1;
        }
        self.forget_what_is_counted();
    }

    /// Of what is counted, only the end is of interest.
    fn forget_what_is_counted(&mut self) {
        if self.counts {
            self.window.release(self.total().saturating_sub(OUTPUT_TAIL_BYTES));
            self.sent = self.sent.max(self.window.base());
        }
    }

    /// Gives whether there may be more.
    fn read_once(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let (mut room, limit) = self.window.room(self.last_bytes.unwrap_or(usize::MAX));
        match readv(pipe, &mut room) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                self.window.extend(count);
                if let Some(left) = &mut self.last_bytes {
                    *left -= count;
                    return true;
                }
                if count >= FULL_BYTES && !std::mem::replace(&mut self.widened, true) {
                    widen(pipe);
                }
                if self.is_worth_a_loan() {
                    self.loan = Loan::Due;
                }
                return count == limit;
            }
            Err(Errno::EINTR) => return true,
            // Empty: after the command's end, nothing of its own can follow.
            Err(Errno::EAGAIN) if self.last_bytes.is_some() => self.last_bytes = Some(0),
            Err(Errno::EAGAIN) => {}
            // So says a terminal that everybody has closed.
            Err(_) => self.pipe = None,
        }
        false
    }

    fn is_worth_a_loan(&self) -> bool {
        let fast = self.may_lend && self.widened && self.total() >= LENT_FROM_BYTES;
        // A terminal is no pipe.
        fast && self.loan == Loan::None && capacity(self.pipe.as_ref()).is_some()
    }

    /// What the executor is to be told about the pipe now, if anything: with its descriptor, that it
    /// has it now; without, that it shall give it back.
    pub(crate) fn next_loan(&mut self) -> Option<(u64, Option<BorrowedFd<'_>>)> {
        let (offset, is_sent, pipe) = (self.total(), self.is_sent(), self.pipe.as_ref()?);
        match &mut self.loan {
            Loan::Due if is_sent => {
                self.loan = Loan::Out { reclaimed: false };
                Some((offset, Some(pipe.as_fd())))
            }
            Loan::Out { reclaimed } if self.last_bytes.is_some() && !*reclaimed => {
                *reclaimed = true;
                Some((offset, None))
            }
            _ => None,
        }
    }

    /// The executor has everything before `offset`, and takes no more from the pipe. It keeps no more
    /// if that is `full`.
    pub(crate) fn take_back(&mut self, offset: u64, full: bool) {
        if matches!(self.loan, Loan::Out { .. }) {
            self.loan = Loan::Over;
            self.counts = full;
            self.window.skip_to(offset);
            self.sent = self.window.base();
        }
    }

    /// The command has ended: at most what the pipe can hold is still its own.
    pub(crate) fn command_ended(&mut self) {
        self.last_bytes = Some(capacity(self.pipe.as_ref()).unwrap_or(FULL_BYTES));
        if self.loan == Loan::Due {
            self.loan = Loan::Over;
        }
    }

    /// Whether everything that the command wrote has been read.
    pub(crate) fn is_drained(&self) -> bool {
        self.pipe.is_none() || self.last_bytes == Some(0)
    }

    /// Whether there are bytes to send.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.is_sent() && (!self.counts || self.is_drained())
    }

    /// The next bytes to send, in order, with their offset. They count as sent.
    pub(crate) fn next_chunk(&mut self) -> Option<(u64, [&[u8]; 2])> {
        let offset = self.sent;
        let chunk = self.window.bytes(offset, MAX_OUTPUT_CHUNK_BYTES);
        let length = chunk[0].len() + chunk[1].len();
        self.sent += length as u64;
        (length > 0).then_some((offset, chunk))
    }

    /// The executor has everything before `offset`.
    pub(crate) fn acknowledge(&mut self, offset: u64) {
        self.window.release(offset);
        self.sent = self.sent.max(self.window.base());
    }

    /// A new connection: send from `have` on, as far back as the window goes. Nobody else has the
    /// pipe by now; who had it may have taken more than we know of.
    pub(crate) fn resume_from(&mut self, have: u64) {
        let is_out = matches!(self.loan, Loan::Out { .. });
        if is_out && have > self.total() {
            self.window.skip_to(have);
        } else {
            self.window.release(have);
        }
        if self.loan != Loan::Over {
            self.loan = Loan::None;
        }
        self.sent = self.window.base();
    }

    /// Bytes read so far.
    pub(crate) fn total(&self) -> u64 {
        self.window.end()
    }

    /// Whether everything read was sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent == self.total()
    }

    /// Nobody is left to write.
    pub(crate) fn close(&mut self) {
        self.pipe = None;
    }

    /// Number of the pipe's descriptor, for matching poll results.
    pub(crate) fn raw_fd(&self) -> Option<i32> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd)
    }
}

/// How many bytes a pipe holds; nothing of what is no pipe.
fn capacity(pipe: Option<&OwnedFd>) -> Option<usize> {
    let bytes = fcntl(pipe?, FcntlArg::F_GETPIPE_SZ).ok()?;
    usize::try_from(bytes).ok()
}

/// Makes a pipe hold more, if the kernel lets us.
fn widen(pipe: &OwnedFd) {
    // Twice: kernels from 5.8 to 6.7 (unless mended: 5.15.149, 6.1.76, 6.6.15) wake a writer that
    // waits at a full pipe before there is room for it, and it sleeps on for ever. The second time,
    // there is room.
    for _ in 0..2 {
        let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(WIDE_PIPE_BYTES));
    }
}

#[cfg(test)]
mod loan_tests;
#[cfg(test)]
mod tests;
