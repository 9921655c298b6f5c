//! One output stream of a command: a pipe, and a window of bytes that the executor does not have
//! yet. A full window stops the reading, which stops the command: back-pressure, not memory. The pipe
//! of a command that prints much is lent to the executor, if that takes pipes: what is in it is lost
//! with neither of them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

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
        let (loan, may_lend) = (Loan::None, false);
        Self { pipe, widened: false, loan, may_lend, window, sent: 0, last_bytes: None }
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
        while !self.is_drained() && self.may_read() && self.read_once() {}
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

    /// The executor has everything before `offset`, and takes no more from the pipe.
    pub(crate) fn take_back(&mut self, offset: u64) {
        if matches!(self.loan, Loan::Out { .. }) {
            self.loan = Loan::Over;
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
        !self.is_sent()
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
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, write};
    use protocol::init::WIDE_WINDOW_BYTES;

    fn stream() -> (OutputStream, OwnedFd) {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("pipe");
        (OutputStream::new(Some(reader), &Allowance::new()), writer)
    }

    fn chunk(stream: &mut OutputStream) -> Option<(u64, Vec<u8>)> {
        stream.next_chunk().map(|(offset, parts)| (offset, parts.concat()))
    }

    #[test]
    fn unacknowledged_bytes_are_sent_again_after_a_reconnect() {
        let (mut stream, writer) = stream();
        write(&writer, b"abcdef").expect("write");
        stream.read();
        assert_eq!(chunk(&mut stream), Some((0, b"abcdef".to_vec())));
        assert!(stream.is_sent());
        stream.resume_from(2);
        assert_eq!(chunk(&mut stream), Some((2, b"cdef".to_vec())));
        assert_eq!(stream.total(), 6);
    }

    #[test]
    fn a_full_window_stops_reading_until_the_executor_catches_up() {
        let (mut stream, writer) = stream();
        while stream.wants_read().is_some() {
            write(&writer, &[7; 4096]).expect("write");
            stream.read();
        }
        assert_eq!(stream.total(), WIDE_WINDOW_BYTES as u64);
        stream.acknowledge(4096);
        assert!(stream.wants_read().is_some());
    }

    #[test]
    fn a_writer_left_behind_does_not_delay_the_end() {
        let (mut stream, writer) = stream();
        write(&writer, b"last words").expect("write");
        stream.command_ended();
        assert!(!stream.is_drained());
        stream.read();
        assert!(stream.is_drained());
        assert_eq!(stream.total(), 10);
        drop(writer);
    }

    #[test]
    fn a_writer_that_never_stops_is_cut_at_the_pipes_capacity() {
        let (mut stream, writer) = stream();
        stream.command_ended();
        let mut reads = 0;
        while !stream.is_drained() {
            write(&writer, &[7; 4096]).expect("write");
            stream.read_once();
            reads += 1;
            assert!(reads < 1000);
        }
        assert_eq!(stream.total(), 65536);
    }

    #[test]
    fn a_writer_that_waits_goes_on_when_its_pipe_is_widened() {
        for _ in 0..100 {
            let (reader, writer) = std::io::pipe().expect("pipe");
            let reader = OwnedFd::from(reader);
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("set");
            let mut stream = OutputStream::new(Some(reader), &Allowance::new());
            let writing = std::thread::spawn(move || {
                std::io::Write::write_all(&mut &writer, &[7; 600_000]).expect("writes");
            });
            while !stream.is_drained() {
                stream.read();
                stream.acknowledge(stream.total());
                std::thread::yield_now();
            }
            writing.join().expect("ends");
            assert_eq!((stream.total(), stream.widened), (600_000, true));
        }
    }

    #[test]
    fn bytes_keep_their_order_when_the_window_wraps() {
        let (mut stream, writer) = stream();
        let (mut written, mut seen) = (0_u32, Vec::new());
        for round in 0..401_usize {
            let words: Vec<u8> = (0..1000).flat_map(|n| (written + n).to_le_bytes()).collect();
            written += 1000;
            write(&writer, &words).expect("write");
            stream.read();
            // Now and then, what was sent is kept back for a while.
            if round % 7 != 0 {
                while let Some((offset, bytes)) = chunk(&mut stream) {
                    assert_eq!(offset, seen.len() as u64);
                    seen.extend(bytes);
                }
                stream.acknowledge(seen.len() as u64 - 1500);
            }
        }
        let expected: Vec<u8> = (0..written).flat_map(u32::to_le_bytes).collect();
        assert!(seen == expected);
    }

    /// A stream whose executor takes pipes, behind as many bytes as make a loan worth it.
    fn fast_stream() -> (OutputStream, OwnedFd) {
        let (mut stream, writer) = stream();
        stream.allow_loan(true);
        widen(stream.pipe.as_ref().expect("a pipe"));
        while stream.total() < LENT_FROM_BYTES {
            assert_eq!(stream.next_loan().map(|(offset, _)| offset), None);
            write(&writer, &[7; 128 * 1024]).expect("write");
            stream.read();
        }
        (stream, writer)
    }

    fn lend(stream: &mut OutputStream) -> u64 {
        while let Some((offset, bytes)) = chunk(stream) {
            stream.acknowledge(offset + bytes.len() as u64);
        }
        let (offset, pipe) = stream.next_loan().expect("it is lent");
        assert!(pipe.is_some());
        offset
    }

    #[test]
    fn a_pipe_is_lent_behind_everything_that_was_read_of_it() {
        let (mut stream, writer) = fast_stream();
        write(&writer, b"later").expect("write");
        stream.read();
        assert!(stream.next_loan().is_none(), "what was read is not sent yet");
        assert!(stream.wants_read().is_none());
        let offset = lend(&mut stream);
        assert_eq!(offset, stream.total());
        stream.read();
        assert_eq!((stream.total(), stream.is_sent(), stream.is_drained()), (offset, true, false));
        // The executor takes two bytes, and gives it back.
        stream.take_back(offset + 2);
        stream.take_back(offset + 4);
        read_from(&stream, 2);
        stream.read();
        assert_eq!(chunk(&mut stream), Some((offset + 2, b"ter".to_vec())));
        assert!(stream.next_loan().is_none(), "it is lent once");
    }

    fn read_from(stream: &OutputStream, count: usize) {
        let pipe = stream.pipe.as_ref().expect("a pipe");
        assert_eq!(nix::unistd::read(pipe, &mut vec![0; count]), Ok(count));
    }

    #[test]
    fn a_lent_pipe_comes_back_with_another_executor() {
        let (mut stream, writer) = fast_stream();
        let offset = lend(&mut stream);
        write(&writer, b"more of it").expect("write");
        read_from(&stream, 5);
        stream.allow_loan(false);
        stream.resume_from(offset + 5);
        stream.read();
        assert_eq!(chunk(&mut stream), Some((offset + 5, b"of it".to_vec())));
        assert!(stream.next_loan().is_none());
        // One that takes pipes gets it again.
        stream.allow_loan(true);
        stream.resume_from(offset + 10);
        write(&writer, b".").expect("write");
        stream.read();
        assert_eq!(lend(&mut stream), offset + 11);
    }

    #[test]
    fn an_executor_that_had_not_kept_what_came_before_the_loan_gets_it_again() {
        let (mut stream, _writer) = fast_stream();
        let total = stream.total();
        while chunk(&mut stream).is_some() {}
        assert!(matches!(stream.next_loan(), Some((offset, Some(_))) if offset == total));
        stream.acknowledge(1000);
        stream.resume_from(2000);
        assert_eq!(stream.total(), total);
        assert_eq!(chunk(&mut stream).map(|(offset, _)| offset), Some(2000));
    }

    #[test]
    fn a_pipe_is_reclaimed_once_at_the_commands_end() {
        let (mut stream, writer) = fast_stream();
        let offset = lend(&mut stream);
        assert!(stream.next_loan().is_none());
        write(&writer, b"end").expect("write");
        stream.command_ended();
        stream.read();
        assert!(matches!(stream.next_loan(), Some((_, None))));
        assert!(stream.next_loan().is_none());
        assert!(!stream.is_drained());
        stream.take_back(offset);
        stream.read();
        assert_eq!(chunk(&mut stream), Some((offset, b"end".to_vec())));
        assert!(stream.is_drained());
    }

    #[test]
    fn a_command_that_ends_before_its_pipe_is_lent_keeps_it() {
        let (mut stream, _writer) = fast_stream();
        stream.command_ended();
        while chunk(&mut stream).is_some() {}
        assert!(stream.next_loan().is_none());
        stream.acknowledge(stream.total());
        stream.read();
        assert!(stream.is_drained());
    }
}
