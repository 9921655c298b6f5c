//! The connection to the executor: one Unix socket, frames in, frames out, no blocking.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use protocol::init::{FrameError, FromInit, MAX_FRAME_BYTES, ToInit, decode, encode};

/// Bytes that may wait for the executor before no more output is put in front of it.
const MAX_QUEUED_BYTES: usize = MAX_FRAME_BYTES;

/// See the module.
pub(crate) struct Link {
    socket: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
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
        Some(Self { socket, incoming: Vec::new(), outgoing: Vec::new() })
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
        self.outgoing.len() < MAX_QUEUED_BYTES
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
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing) {
                Ok(0) => return Err(Broken),
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
            }
        }
        Ok(())
    }

    /// Reads what is there and gives the whole frames of it.
    ///
    /// # Errors
    /// When the connection broke or a frame is malformed.
    pub(crate) fn receive(&mut self) -> Result<Vec<ToInit>, Broken> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(Broken),
                Ok(count) => self.incoming.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
            }
            if self.incoming.len() > 2 * MAX_FRAME_BYTES {
                break;
            }
        }
        let mut frames = Vec::new();
        while let Some(frame) = decode(&mut self.incoming)? {
            frames.push(frame);
        }
        Ok(frames)
    }
}
