//! One output stream of a command: a pipe, and a window of bytes that the executor does not have
//! yet. A full window stops the reading, which stops the command: back-pressure, not memory.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::read;
use protocol::init::{MAX_CHUNK_BYTES, WINDOW_BYTES};

/// See the module.
pub(crate) struct OutputStream {
    pipe: Option<OwnedFd>,
    window: VecDeque<u8>,
    /// Offset of the first byte in the window: what the executor has acknowledged.
    base: u64,
    /// Offset up to which bytes were sent on the current connection.
    sent: u64,
    /// Bytes that may still be read after the command's end: what can be in the pipe by then.
    last_bytes: Option<usize>,
}

impl OutputStream {
    /// A stream that reads `pipe`, which must not block.
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe), window: VecDeque::new(), base: 0, sent: 0, last_bytes: None }
    }

    /// The pipe, while there is room for what it gives.
    pub(crate) fn wants_read(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| self.room() > 0).map(AsFd::as_fd)
    }

    /// Reads once. Bytes keep their order; an end of file closes the pipe.
    pub(crate) fn read_once(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut chunk = [0; MAX_CHUNK_BYTES];
        let limit = self.room().min(chunk.len()).min(self.last_bytes.unwrap_or(usize::MAX));
        if limit == 0 {
            return;
        }
        match read(pipe, &mut chunk[..limit]) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                self.window.extend(&chunk[..count]);
                if let Some(left) = &mut self.last_bytes {
                    *left -= count;
                }
            }
            Err(Errno::EINTR) => {}
            // Empty: after the command's end, nothing of its own can follow.
            Err(Errno::EAGAIN) if self.last_bytes.is_some() => self.last_bytes = Some(0),
            Err(Errno::EAGAIN) => {}
            Err(_) => self.pipe = None,
        }
    }

    /// The command has ended: at most what the pipe can hold is still its own.
    pub(crate) fn command_ended(&mut self) {
        let capacity = self
            .pipe
            .as_ref()
            .and_then(|pipe| fcntl(pipe, FcntlArg::F_GETPIPE_SZ).ok())
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(MAX_CHUNK_BYTES);
        self.last_bytes = Some(capacity);
    }

    /// Whether everything that the command wrote has been read.
    pub(crate) fn is_drained(&self) -> bool {
        self.pipe.is_none() || self.last_bytes == Some(0)
    }

    /// The next bytes to send, with their offset.
    pub(crate) fn next_chunk(&mut self) -> Option<(u64, Vec<u8>)> {
        let skip = usize::try_from(self.sent - self.base).ok()?;
        let length = self.window.len().checked_sub(skip)?.min(MAX_CHUNK_BYTES);
        if length == 0 {
            return None;
        }
        let offset = self.sent;
        self.sent += length as u64;
        Some((offset, self.window.range(skip..skip + length).copied().collect()))
    }

    /// The executor has everything before `offset`.
    pub(crate) fn acknowledge(&mut self, offset: u64) {
        let end = self.total();
        let offset = offset.clamp(self.base, end);
        let count = usize::try_from(offset - self.base).unwrap_or(0);
        self.window.drain(..count);
        self.base = offset;
        self.sent = self.sent.max(offset);
    }

    /// A new connection: send from `have` on, as far back as the window goes.
    pub(crate) fn resume_from(&mut self, have: u64) {
        self.acknowledge(have);
        self.sent = self.base;
    }

    /// Bytes read so far.
    pub(crate) fn total(&self) -> u64 {
        self.base + self.window.len() as u64
    }

    /// Whether everything read was sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent == self.total()
    }

    /// Gives the pipe away, so that a process left behind can go on writing without harm.
    pub(crate) fn into_pipe(self) -> Option<OwnedFd> {
        self.pipe
    }

    /// Number of the pipe's descriptor, for matching poll results.
    pub(crate) fn raw_fd(&self) -> Option<i32> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn room(&self) -> usize {
        WINDOW_BYTES.saturating_sub(self.window.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, write};

    fn stream() -> (OutputStream, OwnedFd) {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("pipe");
        (OutputStream::new(reader), writer)
    }

    #[test]
    fn unacknowledged_bytes_are_sent_again_after_a_reconnect() {
        let (mut stream, writer) = stream();
        write(&writer, b"abcdef").expect("write");
        stream.read_once();
        assert_eq!(stream.next_chunk(), Some((0, b"abcdef".to_vec())));
        assert!(stream.is_sent());
        stream.resume_from(2);
        assert_eq!(stream.next_chunk(), Some((2, b"cdef".to_vec())));
        assert_eq!(stream.total(), 6);
    }

    #[test]
    fn a_full_window_stops_reading_until_the_executor_catches_up() {
        let (mut stream, writer) = stream();
        while stream.wants_read().is_some() {
            write(&writer, &[7; 4096]).expect("write");
            stream.read_once();
        }
        assert_eq!(stream.total(), WINDOW_BYTES as u64);
        stream.acknowledge(4096);
        assert!(stream.wants_read().is_some());
    }

    #[test]
    fn a_writer_left_behind_does_not_delay_the_end() {
        let (mut stream, writer) = stream();
        write(&writer, b"last words").expect("write");
        stream.command_ended();
        stream.read_once();
        assert!(!stream.is_drained());
        stream.read_once();
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
}
