//! The standard input of one command: bytes that were taken for it and that it has not read yet.
//! Takes every byte exactly once, by its offset; knows no frames and never blocks.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::write;
use protocol::init::STDIN_WINDOW_BYTES;

/// What a terminal takes for the end of input, at the start of a line. In the middle of one it
/// hands over the line so far, so that a second one is needed.
const END_OF_TRANSMISSION: u8 = 4;

/// What the bytes are written to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sink {
    /// A pipe: closing it is the end of the input.
    Pipe,
    /// The master of a terminal, which the command's output comes from too.
    Terminal,
}

/// See the module.
pub(crate) struct Input {
    fd: Option<OwnedFd>,
    sink: Sink,
    queue: VecDeque<u8>,
    /// Bytes of [`Input::offer`] that were taken so far.
    taken: u64,
    /// Nothing follows what is in the queue.
    complete: bool,
    last: Option<u8>,
}

impl Input {
    /// An input that nothing ever comes by.
    pub(crate) fn none() -> Self {
        Self::new(None, Sink::Pipe)
    }

    /// An input that [`Input::offer`] fills. `fd` must not block.
    pub(crate) fn open(fd: OwnedFd, sink: Sink) -> Self {
        Self::new(Some(fd), sink)
    }

    /// An input of these bytes and nothing after them. `fd` must not block.
    pub(crate) fn of(fd: OwnedFd, sink: Sink, bytes: Vec<u8>) -> Self {
        let mut input = Self::new(Some(fd), sink);
        input.last = bytes.last().copied();
        input.queue = bytes.into();
        input.complete();
        input.feed();
        input
    }

    fn new(fd: Option<OwnedFd>, sink: Sink) -> Self {
        let complete = fd.is_none();
        Self { fd, sink, queue: VecDeque::new(), taken: 0, complete, last: None }
    }

    /// Takes what is new of `bytes`, which start at `offset`, as far as there is room. Gives how
    /// many bytes were taken in all, and whether more can come.
    pub(crate) fn offer(&mut self, offset: u64, bytes: &[u8], close: bool) -> (u64, bool) {
        let known = self.taken.checked_sub(offset).and_then(|known| usize::try_from(known).ok());
        if let Some(known) = known
            && self.is_open()
        {
            let new = bytes.get(known..).unwrap_or_default();
            let room = STDIN_WINDOW_BYTES.saturating_sub(self.queue.len());
            let fits = &new[..new.len().min(room)];
            self.queue.extend(fits);
            self.taken += fits.len() as u64;
            self.last = fits.last().copied().or(self.last);
            // The end counts for the place that it was said of, not for an earlier one.
            if close && fits.len() == new.len() && known <= bytes.len() {
                self.complete();
            }
            self.feed();
        }
        (self.taken, self.is_open())
    }

    fn complete(&mut self) {
        self.complete = true;
        if self.sink == Sink::Terminal {
            let midline = self.last.is_some_and(|last| last != b'\n' && last != b'\r');
            self.queue.extend(std::iter::repeat_n(END_OF_TRANSMISSION, 1 + usize::from(midline)));
        }
    }

    /// Whether more can come.
    fn is_open(&self) -> bool {
        self.fd.is_some() && !self.complete
    }

    /// The descriptor to watch, and whether there is something to write to it. Where there is not,
    /// it reports only that the command does not read any more.
    pub(crate) fn watched(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.fd.as_ref().map(|fd| (fd.as_fd(), !self.queue.is_empty()))
    }

    /// The watched descriptor reported something.
    pub(crate) fn wake(&mut self) {
        if self.queue.is_empty() {
            self.close();
        } else {
            self.feed();
        }
    }

    /// Gives the command what it takes; closes its input after the last byte.
    pub(crate) fn feed(&mut self) {
        while let Some(fd) = &self.fd {
            if self.queue.is_empty() {
                if self.complete {
                    self.close();
                }
                return;
            }
            match write(fd, self.queue.as_slices().0) {
                Ok(count) => drop(self.queue.drain(..count)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => self.close(),
            }
        }
    }

    /// The command ended, or does not read any more.
    pub(crate) fn close(&mut self) {
        self.fd = None;
        self.queue = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, read};

    fn input() -> (Input, OwnedFd) {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("pipe");
        (Input::open(writer, Sink::Pipe), reader)
    }

    fn read_all(reader: &OwnedFd) -> Vec<u8> {
        let mut all = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = read(reader, &mut chunk) {
            all.extend_from_slice(&chunk[..count]);
        }
        all
    }

    #[test]
    fn repeated_bytes_are_taken_once_and_gaps_not_at_all() {
        let (mut input, reader) = input();
        assert_eq!(input.offer(0, b"abc", false), (3, true));
        assert_eq!(input.offer(0, b"abc", false), (3, true));
        assert_eq!(input.offer(1, b"bcde", false), (5, true));
        assert_eq!(input.offer(7, b"xyz", true), (5, true), "a gap");
        assert_eq!(input.offer(0, b"ab", true), (5, true), "an end that was passed long ago");
        assert_eq!(input.offer(5, b"f", true), (6, false));
        assert_eq!(input.offer(6, b"g", false), (6, false), "closed");
        assert_eq!(read_all(&reader), b"abcdef");
        assert_eq!(read(&reader, &mut [0; 8]), Ok(0), "the end");
    }

    #[test]
    fn a_command_that_does_not_read_bounds_what_is_taken() {
        let (mut input, reader) = input();
        let all: Vec<u8> = (0..2 * STDIN_WINDOW_BYTES).map(|n| (n % 251) as u8).collect();
        let (taken, open) = input.offer(0, &all, true);
        let pipe = 64 * 1024;
        assert!(taken < (STDIN_WINDOW_BYTES + pipe + 1) as u64 && open, "{taken}");
        let mut seen = Vec::new();
        while input.watched().is_some() {
            seen.extend(read_all(&reader));
            input.feed();
            let offset = seen.len();
            input.offer(offset as u64, &all[offset..], true);
        }
        seen.extend(read_all(&reader));
        assert!(seen == all);
    }

    #[test]
    fn an_input_that_nobody_reads_is_closed() {
        let (mut input, reader) = input();
        drop(reader);
        assert_eq!(input.offer(0, b"abc", false), (3, false));
        assert!(input.watched().is_none());
    }
}
