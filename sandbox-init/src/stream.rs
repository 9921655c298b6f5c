//! One output stream of a command: a pipe, and a window of bytes that the executor does not have
//! yet. A full window stops the reading, which stops the command: back-pressure, not memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::uio::readv;
use protocol::init::MAX_OUTPUT_CHUNK_BYTES;

use crate::window::{Allowance, Window};

/// A read of so many bytes is of a command that fills its pipe.
const FULL_BYTES: usize = 64 * 1024;
/// What the pipe of such a command is made to hold, in bytes. Not more, and not for every command:
/// what all sandboxes' pipes hold counts against one limit of the kernel, that of root.
const WIDE_PIPE_BYTES: i32 = 256 * 1024;

/// What is to be sent next.
pub(crate) enum Next<'a> {
    /// Where the executor sees the window, and its number.
    Window(BorrowedFd<'a>, u64),
    /// So many bytes lie there from an offset on.
    Shared { offset: u64, length: usize },
    /// Bytes from an offset on, in order.
    Bytes { offset: u64, parts: [&'a [u8]; 2] },
}

/// See the module.
pub(crate) struct OutputStream {
    pipe: Option<OwnedFd>,
    /// Whether the pipe was widened, or could not be.
    widened: bool,
    window: Window,
    /// Offset up to which bytes were sent on the current connection.
    sent: u64,
    /// It was said on the current connection where the executor sees the window.
    announced: bool,
    /// The executor said on it that it does.
    seen: bool,
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
            window,
            sent: 0,
            announced: false,
            seen: false,
            last_bytes: None,
        }
    }

    /// The pipe, while there is room for what it gives.
    pub(crate) fn wants_read(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| self.window.has_room()).map(AsFd::as_fd)
    }

    /// Reads what is there, as far as there is room. Bytes keep their order; an end of file closes
    /// the pipe.
    pub(crate) fn read(&mut self) {
        while !self.is_drained() && self.window.has_room() && self.read_once() {}
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

    /// The command has ended: at most what the pipe can hold is still its own, or what it does hold.
    pub(crate) fn command_ended(&mut self) {
        let bytes = self.pipe.as_ref().map(|pipe| capacity(pipe).max(waiting(pipe)));
        self.last_bytes = Some(bytes.unwrap_or(0));
    }

    /// Whether everything that the command wrote has been read.
    pub(crate) fn is_drained(&self) -> bool {
        self.pipe.is_none() || self.last_bytes == Some(0)
    }

    /// Whether there are bytes to send.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.is_sent()
    }

    /// What to send next. Bytes then count as sent.
    pub(crate) fn next(&mut self) -> Option<Next<'_>> {
        let offset = self.sent;
        let parts = self.window.bytes(offset, MAX_OUTPUT_CHUNK_BYTES);
        let length = parts[0].len() + parts[1].len();
        if length == 0 {
            return None;
        }
        if let Some((memory, inode)) = self.window.shared() {
            if !std::mem::replace(&mut self.announced, true) {
                return Some(Next::Window(memory, inode));
            }
            if self.seen {
                self.sent += length as u64;
                return Some(Next::Shared { offset, length });
            }
        }
        self.sent += length as u64;
        Some(Next::Bytes { offset, parts })
    }

    /// Another executor, or another connection of it: whether it reads windows. It has seen none.
    pub(crate) fn let_share(&mut self, may: bool) {
        self.window.let_share(may);
        self.announced = false;
        self.seen = false;
    }

    /// The executor sees the window that it was told of.
    pub(crate) fn window_is_seen(&mut self) {
        self.seen = self.announced;
    }

    /// The executor has everything before `offset`.
    pub(crate) fn acknowledge(&mut self, offset: u64) {
        self.window.release(offset);
        self.sent = self.sent.max(self.window.base());
    }

    /// A new connection: send from `have` on, as far back as the window goes.
    pub(crate) fn resume_from(&mut self, have: u64) {
        self.window.release(have);
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

/// What a pipe can hold, in bytes of pages.
fn capacity(pipe: &OwnedFd) -> usize {
    let bytes = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).ok();
    bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(FULL_BYTES)
}

/// What a pipe holds, in bytes: with `splice` from a socket, more than so many pages do.
fn waiting(pipe: &OwnedFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel writes one such number where we say.
    let told = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if told == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
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
        match stream.next()? {
            Next::Bytes { offset, parts } => Some((offset, parts.concat())),
            _ => panic!("nothing is shared here"),
        }
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

    /// What is sent next, in words.
    fn said(stream: &mut OutputStream) -> &'static str {
        match stream.next() {
            Some(Next::Window(..)) => "window",
            Some(Next::Shared { .. }) => "shared",
            Some(Next::Bytes { .. }) => "bytes",
            None => "nothing",
        }
    }

    #[test]
    fn a_window_is_used_when_it_is_wide_and_the_executor_has_seen_it() {
        let (mut stream, writer) = stream();
        stream.let_share(true);
        stream.window_is_seen();
        while stream.wants_read().is_some() {
            write(&writer, &[7; 4096]).expect("write");
            stream.read();
        }
        assert_eq!([said(&mut stream), said(&mut stream)], ["window", "bytes"]);
        stream.window_is_seen();
        assert_eq!([said(&mut stream), said(&mut stream)], ["shared", "shared"]);
        // On another connection, it has to be seen again.
        stream.let_share(true);
        assert_eq!(said(&mut stream), "window");
        stream.resume_from(4096);
        stream.let_share(true);
        assert_eq!([said(&mut stream), said(&mut stream)], ["window", "bytes"]);
        // Of an executor that knows nothing of windows.
        stream.let_share(false);
        stream.resume_from(4096);
        stream.window_is_seen();
        assert_eq!([said(&mut stream), said(&mut stream)], ["bytes", "bytes"]);
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
    fn what_was_spliced_into_the_pipe_is_read_to_its_end() {
        use std::io::Write as _;
        use std::os::unix::net::UnixStream;

        let (mut stream, writer) = stream();
        let (mut theirs, ours) = UnixStream::pair().expect("sockets");
        theirs.set_nonblocking(true).expect("set");
        let (mut given, mut moved) = (0_usize, 0);
        loop {
            // As large as a socket's buffers are; each takes one place of the pipe's.
            given += theirs.write(&[7; 32 * 1024]).unwrap_or(0);
            let (from, to, none) = (ours.as_raw_fd(), writer.as_raw_fd(), std::ptr::null_mut());
            let flags = libc::SPLICE_F_NONBLOCK;
            // SAFETY: both descriptors are open; there is nothing to be written by the kernel.
            match unsafe { libc::splice(from, none, to, none, given - moved, flags) } {
                count @ 1.. => moved += usize::try_from(count).expect("counted"),
                _ => break,
            }
        }
        assert!(moved > capacity(stream.pipe.as_ref().expect("a pipe")), "{moved} bytes");
        stream.command_ended();
        while !stream.is_drained() {
            stream.read();
            stream.acknowledge(stream.total());
        }
        assert_eq!(stream.total(), moved as u64);
        drop(writer);
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
}
