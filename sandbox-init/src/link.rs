//! The connection to the executor: one Unix socket, frames in, frames out, no blocking. Output is
//! written from where it is held; only what the socket does not take is copied. A frame can bring a
//! descriptor.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use domain::ids::ExecId;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use protocol::init::{FrameBuffer, FrameError, FromInit, MAX_FRAME_BYTES, Stream, ToInit, encode};
use protocol::output_frame::encode_output_head;

/// Bytes that may wait for the executor before no more output is put behind them.
const MAX_QUEUED_BYTES: usize = MAX_FRAME_BYTES;
/// What a connection without work may keep of each of its buffers, in bytes.
const IDLE_BYTES: usize = 16 * 1024;

/// See the module. `S` is the socket.
pub(crate) struct Link<S = UnixStream> {
    socket: S,
    incoming: FrameBuffer,
    outgoing: Vec<u8>,
    /// Bytes at the front of `outgoing` that were written.
    written: usize,
    /// Descriptors, and the places in `outgoing` of the bytes that bring them, in order.
    descriptors: VecDeque<(usize, OwnedFd)>,
    /// The socket took less than it was given.
    full: bool,
}

/// What frames and descriptors are sent over.
pub(crate) trait Socket: Read + Write {
    /// Writes once. The descriptor comes with the first byte.
    fn write_with(&mut self, bytes: &[u8], descriptor: BorrowedFd<'_>) -> std::io::Result<usize>;
}

impl Socket for UnixStream {
    fn write_with(&mut self, bytes: &[u8], descriptor: BorrowedFd<'_>) -> std::io::Result<usize> {
        let descriptors = [descriptor.as_raw_fd()];
        let brought = [ControlMessage::ScmRights(&descriptors)];
        let slices = [IoSlice::new(bytes)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        Ok(sendmsg::<UnixAddr>(self.as_raw_fd(), &slices, &brought, flags, None)?)
    }
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

/// What an exec has to say.
pub(crate) enum Outgoing<'a> {
    /// A frame, and a descriptor that it brings.
    Frame(FromInit, Option<BorrowedFd<'a>>),
    Output(Output<'a>),
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
        // Never waits, also not where the executor has stopped and takes no connections any more.
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path).ok()?).ok()?;
        Some(Self::over(UnixStream::from(socket)))
    }

    /// The socket, for polling.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<S: Socket> Link<S> {
    fn over(socket: S) -> Self {
        let incoming = FrameBuffer::default();
        let (outgoing, descriptors) = (Vec::new(), VecDeque::new());
        Self { socket, incoming, outgoing, written: 0, descriptors, full: false }
    }

    /// Whether bytes wait to be written.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Writes what is queued and what `put` sends behind it, one frame a call, until that has no more
    /// (`false`) or the socket is full. So afterwards either all was put, or bytes wait to be
    /// written, and the poll comes back for both.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) fn fill(
        &mut self,
        mut put: impl FnMut(&mut Self) -> Result<bool, Broken>,
    ) -> Result<(), Broken> {
        self.flush()?;
        while self.has_room() {
            if !put(self)? {
                return self.flush();
            }
        }
        // Not written once more: were the queue emptied here, because the executor has read
        // meanwhile, nobody would come back for what is still unsent.
        Ok(())
    }

    fn has_room(&self) -> bool {
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

    /// Queues a frame that brings a descriptor, if there is one and we can have one more of them.
    /// Whoever gets the frame without it cannot use it, and says so.
    ///
    /// # Errors
    /// When it does not fit a frame.
    pub(crate) fn send_with(
        &mut self,
        frame: &FromInit,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Broken> {
        let place = self.outgoing.len();
        self.send(frame)?;
        let ours = descriptor.and_then(|descriptor| descriptor.try_clone_to_owned().ok());
        self.descriptors.extend(ours.map(|descriptor| (place, descriptor)));
        Ok(())
    }

    /// Sends what an exec has to say.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) fn say(&mut self, said: &Outgoing<'_>) -> Result<(), Broken> {
        match said {
            Outgoing::Frame(frame, descriptor) => self.send_with(frame, *descriptor),
            Outgoing::Output(output) => self.send_output(output),
        }
    }

    /// Writes what is queued, and this output behind it. What the socket does not take is queued.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) fn send_output(&mut self, output: &Output<'_>) -> Result<(), Broken> {
        let &Output { exec_id, stream, offset, parts: [first, second] } = output;
        let length = first.len() + second.len();
        encode_output_head(exec_id, stream, offset, length, &mut self.outgoing)?;
        if !self.descriptors.is_empty() {
            self.outgoing.extend_from_slice(first);
            self.outgoing.extend_from_slice(second);
            return self.flush();
        }
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

    /// Writes as much of what is queued as the socket takes: in one go up to the next descriptor.
    fn flush(&mut self) -> Result<(), Broken> {
        self.full = false;
        while self.queued() > 0 && !self.full {
            let brings = self.descriptors.pop_front_if(|(place, _)| *place == self.written);
            let next = self.descriptors.front().map_or(self.outgoing.len(), |(place, _)| *place);
            let bytes = &self.outgoing[self.written..next];
            let count = match &brings {
                Some((_, descriptor)) => write_with(&mut self.socket, bytes, descriptor)?,
                None => write(&mut self.socket, &[IoSlice::new(bytes)])?,
            };
            self.full = count < bytes.len();
            if count == 0
                && let Some(brings) = brings
            {
                self.descriptors.push_front(brings);
            }
            self.written += count;
        }
        self.forget_written();
        Ok(())
    }

    fn forget_written(&mut self) {
        // Only when most of it was written, so that each byte is moved once at most.
        if 2 * self.written >= self.outgoing.len() {
            self.outgoing.drain(..self.written);
            for (place, _) in &mut self.descriptors {
                *place -= self.written;
            }
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
fn write(socket: &mut impl Write, slices: &[IoSlice<'_>]) -> Result<usize, Broken> {
    loop {
        match socket.write_vectored(slices) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Broken),
        }
    }
}

/// The same with a descriptor; without it, where the runtime cannot pass any.
fn write_with(
    socket: &mut impl Socket,
    bytes: &[u8],
    descriptor: &OwnedFd,
) -> Result<usize, Broken> {
    loop {
        match socket.write_with(bytes, descriptor.as_fd()) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return write(socket, &[IoSlice::new(bytes)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at each write as many bytes as the next number says, then all.
    struct Grudging {
        takes: VecDeque<usize>,
        taken: Vec<u8>,
        /// Where descriptors came.
        brought: Vec<usize>,
    }

    impl Grudging {
        fn new(takes: &[usize]) -> Self {
            Self { takes: takes.iter().copied().collect(), taken: Vec::new(), brought: Vec::new() }
        }
    }

    impl Socket for Grudging {
        fn write_with(&mut self, bytes: &[u8], _: BorrowedFd<'_>) -> std::io::Result<usize> {
            let place = self.taken.len();
            let count = self.write(bytes)?;
            self.brought.push(place);
            Ok(count)
        }
    }

    impl Write for Grudging {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = self.takes.pop_front().unwrap_or(bytes.len()).min(bytes.len());
            self.taken.extend_from_slice(&bytes[..count]);
            if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> std::io::Result<usize> {
            self.write(&slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Read for Grudging {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    const PIECE: &[u8] = b"forty-two bytes of output, in three pieces";

    /// Sends the pieces as PID 1 does: again whenever the poll would come back. Gives how often.
    fn send_all(takes: &[usize], pieces: usize) -> (usize, Vec<u8>) {
        let exec_id = ExecId::from(uuid::Uuid::from_u128(1));
        let (mut link, mut sent) = (Link::over(Grudging::new(takes)), 0);
        for round in 1..100 {
            let filled = link.fill(|link| {
                if sent == pieces {
                    return Ok(false);
                }
                let offset = (sent * PIECE.len()) as u64;
                sent += 1;
                let parts = [&PIECE[..20], &PIECE[20..]];
                link.send_output(&Output { exec_id, stream: Stream::Stdout, offset, parts })?;
                Ok(true)
            });
            filled.expect("the connection is whole");
            if !link.has_outgoing() {
                assert_eq!(sent, pieces, "{takes:?}: it sleeps with output in hand");
                return (round, link.socket.taken);
            }
        }
        panic!("{takes:?}: it never comes to rest");
    }

    #[test]
    fn however_the_executor_reads_no_output_is_left_behind() {
        let (_, whole) = send_all(&[], 3);
        for first in [0, 1, 30, 60, 1000] {
            for second in [0, 1, 30, 60, 1000] {
                for third in [0, 1, 30, 60, 1000] {
                    let (_, taken) = send_all(&[first, second, third], 3);
                    assert_eq!(taken, whole, "{first} {second} {third}");
                }
            }
        }
    }

    #[test]
    fn a_full_socket_is_left_to_the_poll() {
        assert_eq!(send_all(&[], 3).0, 1);
        assert_eq!(send_all(&[10], 3).0, 2);
        assert_eq!(send_all(&[0], 3).0, 2);
    }

    #[test]
    fn a_descriptor_comes_with_the_first_byte_of_its_frame() {
        let exec_id = ExecId::from(uuid::Uuid::from_u128(1));
        let stream = Stream::Stderr;
        let share = FromInit::Share { exec_id, stream, inode: 6 };
        let output = || Output { exec_id, stream, offset: 0, parts: [PIECE, PIECE] };
        let (mut expected, mut places) = (Vec::new(), Vec::new());
        for n in 0..3 {
            if n > 0 {
                places.push(expected.len());
                encode(&share, &mut expected).expect("fits");
            }
            let bytes = [PIECE, PIECE].concat();
            encode(&FromInit::Output { exec_id, stream, offset: 0, bytes }, &mut expected)
                .expect("fits");
        }
        let (pipe, _) = std::io::pipe().expect("a pipe");
        for first in [0, 1, 60, 110, 130, 150, 1000] {
            for second in [0, 1, 30, 90, 1000] {
                let mut link = Link::over(Grudging::new(&[first, second, 0, 1]));
                link.send_output(&output()).expect("sends");
                for _ in 0..2 {
                    link.send_with(&share, Some(pipe.as_fd())).expect("sends");
                    link.send_output(&output()).expect("sends");
                }
                while link.has_outgoing() {
                    link.fill(|_| Ok(false)).expect("the connection is whole");
                }
                assert!(link.socket.taken == expected, "{first} {second}");
                assert_eq!(link.socket.brought, places, "{first} {second}");
                assert!(link.descriptors.is_empty());
            }
        }
    }

    #[test]
    fn a_descriptor_arrives() {
        let (mut ours, theirs) = UnixStream::pair().expect("sockets");
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"x").expect("writes");
        assert_eq!(ours.write_with(b"frame", reader.as_fd()).expect("writes"), 5);
        let mut bytes = [0; 10];
        let mut space = nix::cmsg_space!([i32; 1]);
        let mut slices = [std::io::IoSliceMut::new(&mut bytes)];
        let got = nix::sys::socket::recvmsg::<()>(
            theirs.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::empty(),
        );
        let got = got.expect("a message");
        assert_eq!((got.bytes, got.cmsgs().expect("whole").count()), (5, 1));
    }
}
