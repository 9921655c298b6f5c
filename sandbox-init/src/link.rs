//! The connection to the executor: one Unix socket, frames in, frames out, no blocking. Output is
//! written from where it is held; only what the socket does not take is copied.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use domain::ids::ExecId;
use protocol::init::{FrameBuffer, FrameError, FromInit, MAX_FRAME_BYTES, Stream, ToInit, encode};
use protocol::output_frame::encode_output_head;

/// Bytes that may wait for the executor before no more output is put behind them.
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
    /// The socket took less than it was given.
    full: bool,
}

/// A piece of output, where it is held.
pub(crate) struct Output<'a> {
    pub(crate) exec_id: ExecId,
    pub(crate) stream: Stream,
    /// Position of the first byte.
    pub(crate) offset: u64,
    /// The bytes, in order.
    pub(crate) parts: [&'a [u8]; 2],
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
        Some(Self { socket, incoming, outgoing: Vec::new(), written: 0, full: false })
    }

    /// The socket, for polling.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether bytes wait to be written.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether another frame may be sent.
    pub(crate) fn has_room(&self) -> bool {
        !self.full && self.queued() < MAX_QUEUED_BYTES
    }

    fn queued(&self) -> usize {
        self.outgoing.len() - self.written
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// When it does not fit a frame.
    pub(crate) fn send(&mut self, frame: &FromInit) -> Result<(), Broken> {
        Ok(encode(frame, &mut self.outgoing)?)
    }

    /// Writes what is queued, and this output behind it. What the socket does not take is queued.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) fn send_output(&mut self, output: &Output<'_>) -> Result<(), Broken> {
        let &Output { exec_id, stream, offset, parts: [first, second] } = output;
        let length = first.len() + second.len();
        encode_output_head(exec_id, stream, offset, length, &mut self.outgoing)?;
        let queued = self.queued();
        let slices = [&self.outgoing[self.written..], first, second].map(IoSlice::new);
        let count = write(&mut self.socket, &slices)?;
        self.full = count < queued + length;
        self.written += count.min(queued);
        let mut skip = count.saturating_sub(queued);
        for part in [first, second] {
            self.outgoing.extend_from_slice(&part[skip.min(part.len())..]);
            skip = skip.saturating_sub(part.len());
        }
        self.forget_written();
        Ok(())
    }

    /// Writes as much of what is queued as the socket takes.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        let queued = self.queued();
        if queued > 0 {
            let slices = [IoSlice::new(&self.outgoing[self.written..])];
            let count = write(&mut self.socket, &slices)?;
            self.written += count;
            self.full = count < queued;
            self.forget_written();
        }
        Ok(())
    }

    fn forget_written(&mut self) {
        // Only when most of it was written, so that each byte is moved once at most.
        if 2 * self.written >= self.outgoing.len() {
            self.outgoing.drain(..self.written);
            self.written = 0;
        }
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

/// Writes once. Gives how many bytes the socket took; it took fewer than there were only because it
/// is full.
fn write(socket: &mut UnixStream, slices: &[IoSlice<'_>]) -> Result<usize, Broken> {
    loop {
        match socket.write_vectored(slices) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Broken),
        }
    }
}
