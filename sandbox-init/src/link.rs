//! The connection to the executor: one Unix socket, frames in, frames out, no blocking.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use protocol::init::{FrameBuffer, FrameError, FromInit, MAX_FRAME_BYTES, ToInit, encode};

/// Bytes that may wait for the executor before no more output is put in front of it.
const MAX_QUEUED_BYTES: usize = MAX_FRAME_BYTES;
/// What a connection without work may keep of each of its buffers, in bytes.
const IDLE_BYTES: usize = 16 * 1024;

/// See the module.
pub(crate) struct Link {
    socket: UnixStream,
    incoming: FrameBuffer,
    outgoing: Vec<u8>,
    /// Bytes at the front of `outgoing` that were written.
    written: usize,
}

/// The connection is of no more use.
#[derive(Debug)]
pub(crate) struct Broken;

impl From<FrameError> for Broken {
    fn from(_: FrameError) -> Self {
        Self
    }
}

impl Link {
    /// Connects to the executor, if it listens.
    pub(crate) fn connect(path: &Path) -> Option<Self> {
        let socket = UnixStream::connect(path).ok()?;
        socket.set_nonblocking(true).ok()?;
        let incoming = FrameBuffer::default();
        Some(Self { socket, incoming, outgoing: Vec::new(), written: 0 })
    }

    /// The socket, for polling.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether bytes wait to be written.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether another frame may be queued.
    pub(crate) fn has_room(&self) -> bool {
        self.outgoing.len() - self.written < MAX_QUEUED_BYTES
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// When it does not fit a frame.
    pub(crate) fn send(&mut self, frame: &FromInit) -> Result<(), Broken> {
        Ok(encode(frame, &mut self.outgoing)?)
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        while self.written < self.outgoing.len() {
            match self.socket.write(&self.outgoing[self.written..]) {
                Ok(0) => return Err(Broken),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
            }
        }
        // Only when most of it was written, so that each byte is moved once at most.
        if 2 * self.written >= self.outgoing.len() {
            self.outgoing.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Reads what is there and gives the whole frames of it.
    ///
    /// # Errors
    /// When the connection broke or a frame is malformed.
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> Result<Vec<ToInit>, Broken> {
        let tail = self.incoming.tail();
        while tail.len() <= 2 * MAX_FRAME_BYTES {
            match self.socket.read(scratch) {
                Ok(0) => return Err(Broken),
                Ok(count) => {
                    tail.extend_from_slice(&scratch[..count]);
                    if count < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
            }
        }
        let mut frames = Vec::new();
        while let Some(frame) = self.incoming.take()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// There is no work: gives up what the buffers do not need.
    pub(crate) fn shrink(&mut self) {
        self.outgoing.shrink_to(IDLE_BYTES);
        self.incoming.tail().shrink_to(IDLE_BYTES);
    }
}
