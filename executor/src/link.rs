//! One connection from a sandbox's PID 1: who is it, frames in, frames out. Refuses peers that are
//! not root, other sandboxes and other versions.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use domain::ids::SandboxId;
use protocol::init::{FrameBuffer, FrameError, FromInit, ToInit, VERSION, encode};
use rustix::fs::fstat;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::failpoint;

const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long PID 1 may take to read what it is told.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that one read asks for: more the more there are, up to more than a Unix socket holds.
const MIN_READ_BYTES: usize = 8 * 1024;
const MAX_READ_BYTES: usize = 256 * 1024;
/// Descriptors whose frames are not there yet; of more, those that came last.
const MAX_DESCRIPTORS: usize = 4;
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
    descriptors: VecDeque<OwnedFd>,
    read_bytes: usize,
}

/// A frame, with the descriptor that it brought.
pub(crate) struct Incoming {
    pub(crate) frame: FromInit,
    pub(crate) descriptor: Option<OwnedFd>,
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
    let mut reader = Reader::new(read);
    let first = timeout(HELLO_TIMEOUT, reader.next()).await.map_err(|_| LinkError::Silent)??;
    match first.frame {
        FromInit::Hello { version: VERSION, sandbox_id: id, boot_id } if id == sandbox_id => {
            Ok((reader, write, boot_id))
        }
        _ => Err(LinkError::Stranger),
    }
}

impl Reader {
    fn new(socket: OwnedReadHalf) -> Self {
        let (buffer, descriptors) = (FrameBuffer::default(), VecDeque::new());
        Self { socket, buffer, descriptors, read_bytes: MIN_READ_BYTES }
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Result<Incoming, LinkError> {
        loop {
            if let Some(frame) = self.buffer.take()? {
                let descriptor = self.descriptor_of(&frame);
                return Ok(Incoming { frame, descriptor });
            }
            let asked = self.read_bytes;
            match self.read().await? {
                0 => return Err(LinkError::Closed),
                count if count == asked => self.read_bytes = MAX_READ_BYTES.min(2 * asked),
                count if count < asked / 4 => self.read_bytes = MIN_READ_BYTES.max(asked / 2),
                _ => {}
            }
        }
    }

    /// Reads once.
    async fn read(&mut self) -> std::io::Result<usize> {
        let (tail, asked) = (self.buffer.tail(), self.read_bytes);
        let before = tail.len();
        let socket: &UnixStream = self.socket.as_ref();
        let read = socket.async_io(Interest::READABLE, || {
            tail.resize(before + asked, 0);
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut brought = RecvAncillaryBuffer::new(&mut space);
            let mut room = [IoSliceMut::new(&mut tail[before..])];
            let got = recvmsg(socket, &mut room, &mut brought, RecvFlags::CMSG_CLOEXEC);
            // Also when there was nothing, so that whoever stops waiting here has no bytes of ours.
            tail.truncate(before + got.as_ref().map_or(0, |got| got.bytes));
            for message in brought.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    self.descriptors.extend(descriptors);
                }
            }
            while self.descriptors.len() > MAX_DESCRIPTORS {
                self.descriptors.pop_front();
            }
            Ok(got?.bytes)
        });
        read.await
    }

    /// The memory that a frame shares, if it came.
    fn descriptor_of(&mut self, frame: &FromInit) -> Option<OwnedFd> {
        let FromInit::Share { inode, .. } = frame else { return None };
        let is_it = |found: &OwnedFd| fstat(found).is_ok_and(|found| found.st_ino == *inode);
        let place = self.descriptors.iter().position(is_it)?;
        self.descriptors.remove(place)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    use domain::ids::ExecId;
    use protocol::init::Stream;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use uuid::Uuid;

    /// Sends a frame that shares something, with `descriptors`.
    fn share(socket: &UnixStream, inode: u64, descriptors: &[&OwnedFd]) {
        let exec_id = ExecId::from(Uuid::from_u128(1));
        let frame = FromInit::Share { exec_id, stream: Stream::Stdout, inode };
        let mut bytes = Vec::new();
        encode(&frame, &mut bytes).expect("fits");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut brought = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
        assert!(brought.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let slices = [IoSlice::new(&bytes)];
        let sent = sendmsg(socket, &slices, &mut brought, SendFlags::empty()).expect("sends");
        assert_eq!(sent, bytes.len());
    }

    /// Anything that has a number.
    fn pipe() -> (OwnedFd, u64) {
        let reader = OwnedFd::from(std::io::pipe().expect("a pipe").0);
        let inode = fstat(&reader).expect("its number").st_ino;
        (reader, inode)
    }

    fn pair() -> (Reader, OwnedWriteHalf, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let (read, write) = ours.into_split();
        (Reader::new(read), write, theirs)
    }

    #[tokio::test]
    async fn a_descriptor_comes_with_its_frame_and_with_no_other() {
        let (mut reader, _write, theirs) = pair();
        let ((one, first), (other, second)) = (pipe(), pipe());
        share(&theirs, first, &[&one]);
        share(&theirs, 1, &[]);
        share(&theirs, second, &[&other]);
        share(&theirs, first, &[&other]);
        share(&theirs, second, &[&other]);
        let mut came = Vec::new();
        for _ in 0..5 {
            let Incoming { frame, descriptor } = reader.next().await.expect("a frame");
            assert!(matches!(frame, FromInit::Share { .. }));
            came.push(descriptor.map(|found| fstat(found).expect("its number").st_ino));
        }
        // Without one, with another's, and as it should be. What goes astray is not used.
        assert_eq!(came, [Some(first), None, Some(second), None, Some(second)]);
    }

    #[tokio::test]
    async fn descriptors_without_frames_are_limited() {
        let (mut reader, write, theirs) = pair();
        let (one, _) = pipe();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let descriptors = [one.as_fd()];
        // The beginning of a frame that never ends.
        for byte in [100, 0, 0, 0, 1, 1] {
            let mut brought = SendAncillaryBuffer::new(&mut space);
            assert!(brought.push(SendAncillaryMessage::ScmRights(&descriptors)));
            let slice = [byte];
            let slices = [IoSlice::new(&slice)];
            sendmsg(&theirs, &slices, &mut brought, SendFlags::empty()).expect("sends");
        }
        drop((theirs, write));
        assert!(matches!(reader.next().await, Err(LinkError::Closed)));
        assert_eq!(reader.descriptors.len(), MAX_DESCRIPTORS);
    }

    #[tokio::test]
    async fn many_bytes_are_read_in_growing_pieces() {
        let (mut reader, _write, mut theirs) = pair();
        let exec_id = ExecId::from(Uuid::from_u128(1));
        let sent: Vec<u8> = (0..900_000_u32).map(|n| (n / 3 % 251) as u8).collect();
        let frame =
            FromInit::Output { exec_id, stream: Stream::Stdout, offset: 0, bytes: sent.clone() };
        let mut bytes = Vec::new();
        encode(&frame, &mut bytes).expect("fits");
        let writing = tokio::spawn(async move { theirs.write_all(&bytes).await });
        let Incoming { frame: FromInit::Output { bytes, .. }, descriptor: None } =
            reader.next().await.expect("a frame")
        else {
            panic!("another frame");
        };
        assert!(bytes == sent);
        assert!(reader.read_bytes > MIN_READ_BYTES);
        writing.await.expect("ends").expect("writes");
    }
}
