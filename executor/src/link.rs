//! One connection from a sandbox's PID 1: who is it, frames in, frames out. Refuses peers that are
//! not root, other sandboxes and other versions.

use std::time::Duration;

use domain::ids::SandboxId;
use protocol::init::{FrameBuffer, FrameError, FromInit, ToInit, VERSION, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::failpoint;

const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long PID 1 may take to read what it is told.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that one read asks for: more than a Unix socket holds.
const READ_BYTES: usize = 256 * 1024;
/// Frames that go out in one write.
const BATCH: usize = 64;

/// The connection is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Somebody without root found the socket.
    #[error("a peer with uid {0} instead of 0")]
    Peer(u32),
    /// No first frame in time.
    #[error("no greeting within {} s", HELLO_TIMEOUT.as_secs())]
    Silent,
    /// The first frame is something else, or somebody else's.
    #[error("a greeting of another sandbox or version")]
    Stranger,
    /// It was closed.
    #[error("closed")]
    Closed,
    /// Reading or writing failed.
    #[error("the socket failed")]
    Io(#[from] std::io::Error),
    /// A frame breaks the protocol.
    #[error("a frame breaks the protocol")]
    Frame(#[from] FrameError),
    /// More frames than it may send before it is answered.
    #[error("more frames than may wait for one exec")]
    TooMuch,
}

/// The reading half.
pub(crate) struct Reader {
    socket: OwnedReadHalf,
    buffer: FrameBuffer,
}

/// Checks who connected. Gives the reading half, the writing half and the number of PID 1's start.
pub(crate) async fn greet(
    socket: UnixStream,
    sandbox_id: SandboxId,
) -> Result<(Reader, OwnedWriteHalf, u64), LinkError> {
    let peer = socket.peer_cred()?.uid();
    if peer != 0 {
        return Err(LinkError::Peer(peer));
    }
    let (read, write) = socket.into_split();
    let mut reader = Reader { socket: read, buffer: FrameBuffer::default() };
    let first = timeout(HELLO_TIMEOUT, reader.next()).await.map_err(|_| LinkError::Silent)??;
    match first {
        FromInit::Hello { version: VERSION, sandbox_id: id, boot_id } if id == sandbox_id => {
            Ok((reader, write, boot_id))
        }
        _ => Err(LinkError::Stranger),
    }
}

impl Reader {
    /// The next frame.
    pub(crate) async fn next(&mut self) -> Result<FromInit, LinkError> {
        loop {
            if let Some(frame) = self.buffer.take()? {
                return Ok(frame);
            }
            let tail = self.buffer.tail();
            tail.reserve(READ_BYTES);
            if self.socket.read_buf(tail).await? == 0 {
                return Err(LinkError::Closed);
            }
        }
    }
}

/// Writes frames until their sender is gone or the connection breaks.
///
/// The queue needs no cap of its own: nearly all frames are acknowledgements, and PID 1 sends at
/// most a window of output before it must read one.
pub(crate) async fn write_frames(
    mut socket: OwnedWriteHalf,
    mut frames: UnboundedReceiver<ToInit>,
) -> Result<(), LinkError> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut bytes = Vec::new();
    while frames.recv_many(&mut batch, BATCH).await > 0 {
        bytes.clear();
        let starts = batch
            .iter()
            .any(|frame| matches!(frame, ToInit::Start(_) | ToInit::StartChecked { .. }));
        for frame in batch.drain(..) {
            encode(&frame, &mut bytes)?;
        }
        timeout(WRITE_TIMEOUT, socket.write_all(&bytes)).await.map_err(|_| LinkError::Silent)??;
        if starts {
            failpoint::hit("start_written");
        }
    }
    Ok(())
}
