//! What one exec hears of PID 1, in order; output that waits can be taken in one go. Whoever puts it
//! there never waits: a slow exec must not keep back what others are told. Judges nothing.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::init::{FromInit, MAX_OUTPUT_CHUNK_BYTES, Stream, WIDE_WINDOW_BYTES};
use tokio::sync::Notify;

/// Most that waits for one exec, in bytes: what PID 1 holds of its two streams until it is
/// acknowledged, as much again after a reconnect, and what else it says.
const MAX_WAITING_BYTES: usize = 5 * WIDE_WINDOW_BYTES;
/// What a frame counts beside its output.
const FRAME_BYTES: usize = 256;

/// Descriptors that wait for one exec.
const MAX_DESCRIPTORS: usize = 4;

/// A frame of PID 1, with the connection that it came by, and the descriptor that it brought.
pub(crate) struct Heard {
    pub(crate) epoch: u64,
    pub(crate) frame: FromInit,
    pub(crate) descriptor: Option<OwnedFd>,
}

/// A piece of a stream.
pub(crate) struct Piece {
    pub(crate) stream: Stream,
    /// Position of the first byte.
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
}

/// The bytes of a piece.
pub(crate) enum Bytes {
    Here(Vec<u8>),
    /// So many, in the window of their stream.
    Shared(usize),
}

impl Bytes {
    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Shared(length) => *length,
        }
    }
}

impl Piece {
    /// The piece that a frame is, if it is one.
    pub(crate) fn of(frame: FromInit) -> Result<Self, FromInit> {
        match frame {
            FromInit::Output { stream, offset, bytes, .. } => {
                Ok(Self { stream, offset, bytes: Bytes::Here(bytes) })
            }
            FromInit::Shared { stream, offset, length, .. } => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Ok(Self { stream, offset, bytes: Bytes::Shared(length) })
            }
            other => Err(other),
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Heard>,
    bytes: usize,
    descriptors: usize,
}

/// PID 1 said more than it may before it is answered.
#[derive(Debug)]
pub(crate) struct TooMuch;

/// Where the frames of an exec are put.
#[derive(Clone)]
pub(crate) struct Inbox(Arc<Queue>);

/// See the module.
pub(crate) struct Frames {
    queue: Arc<Queue>,
    /// Taken out of the queue, and not heard yet.
    ahead: Option<Heard>,
}

/// Both ends of a queue.
pub(crate) fn queue() -> (Inbox, Frames) {
    let queue = Arc::new(Queue::default());
    (Inbox(Arc::clone(&queue)), Frames { queue, ahead: None })
}

impl Inbox {
    /// Puts a frame behind the others, or output to that which it continues: what waits may be many
    /// bytes, but never many frames of a few.
    pub(crate) fn put(&self, heard: Heard) -> Result<(), TooMuch> {
        let mut waiting = self.0.lock();
        if let Some(heard) = waiting.join(heard) {
            let bytes = waiting.bytes + bytes_of(&heard);
            let descriptors = waiting.descriptors + usize::from(heard.descriptor.is_some());
            if bytes > MAX_WAITING_BYTES || descriptors > MAX_DESCRIPTORS {
                return Err(TooMuch);
            }
            (waiting.bytes, waiting.descriptors) = (bytes, descriptors);
            waiting.frames.push_back(heard);
        }
        drop(waiting);
        self.0.more.notify_one();
        Ok(())
    }
}

impl Waiting {
    /// Joins output to the end of what waits of its stream, if nothing else came in between. Gives
    /// it back otherwise.
    fn join(&mut self, heard: Heard) -> Option<Heard> {
        let epoch = heard.epoch;
        for waiting in self.frames.iter_mut().rev().take(2) {
            if waiting.epoch != epoch {
                break;
            }
            match joined(&mut waiting.frame, &heard.frame) {
                Joined::Yes(bytes) => {
                    self.bytes += bytes;
                    return None;
                }
                Joined::OtherStream => {}
                Joined::No => break,
            }
        }
        Some(heard)
    }
}

/// What became of a frame behind another one.
enum Joined {
    /// It is part of that now, which has so many bytes more.
    Yes(usize),
    /// That is of the other stream: it may continue what came before.
    OtherStream,
    No,
}

/// Joins output to that of its stream and kind which it continues, if both fit one piece.
fn joined(last: &mut FromInit, next: &FromInit) -> Joined {
    let fits = |one: usize, other: usize| one.saturating_add(other) <= MAX_OUTPUT_CHUNK_BYTES;
    match (last, next) {
        (
            FromInit::Output { stream: its, offset: begin, bytes: before, .. },
            FromInit::Output { stream, offset, bytes, .. },
        ) if its == stream => {
            let ends = begin.checked_add(before.len() as u64) == Some(*offset);
            if !ends || !fits(before.len(), bytes.len()) {
                return Joined::No;
            }
            before.extend_from_slice(bytes);
            Joined::Yes(bytes.len())
        }
        (
            FromInit::Shared { stream: its, offset: begin, length: before, .. },
            FromInit::Shared { stream, offset, length, .. },
        ) if its == stream => {
            let ends = begin.checked_add(u64::from(*before)) == Some(*offset);
            if !ends || !fits(*before as usize, *length as usize) {
                return Joined::No;
            }
            *before += *length;
            Joined::Yes(0)
        }
        (
            FromInit::Output { stream: its, .. } | FromInit::Shared { stream: its, .. },
            FromInit::Output { stream, .. } | FromInit::Shared { stream, .. },
        ) if its != stream => Joined::OtherStream,
        _ => Joined::No,
    }
}

impl Queue {
    fn pop(&self) -> Option<Heard> {
        let mut waiting = self.lock();
        let heard = waiting.frames.pop_front()?;
        waiting.bytes -= bytes_of(&heard);
        waiting.descriptors -= usize::from(heard.descriptor.is_some());
        Some(heard)
    }

    /// A panic elsewhere leaves the queue whole but for its count.
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(heard: &Heard) -> usize {
    match &heard.frame {
        FromInit::Output { bytes, .. } => FRAME_BYTES + bytes.len(),
        _ => FRAME_BYTES,
    }
}

impl Frames {
    /// The next frame. Nothing is lost when nobody waits for it any more.
    pub(crate) async fn next(&mut self) -> Heard {
        if let Some(heard) = self.ahead.take() {
            return heard;
        }
        loop {
            // A permit that is left over from an earlier frame costs one more look.
            if let Some(heard) = self.queue.pop() {
                return heard;
            }
            self.queue.more.notified().await;
        }
    }

    /// The next frame if it is there already, and is output by the connection `epoch`.
    pub(crate) fn next_output(&mut self, epoch: u64) -> Option<Piece> {
        let heard = self.ahead.take().or_else(|| self.queue.pop())?;
        if heard.epoch != epoch {
            self.ahead = Some(heard);
            return None;
        }
        let Heard { frame, descriptor, .. } = heard;
        match Piece::of(frame) {
            Ok(piece) => Some(piece),
            Err(frame) => {
                self.ahead = Some(Heard { epoch, frame, descriptor });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::ExecId;
    use uuid::Uuid;

    fn heard(epoch: u64, frame: FromInit) -> Heard {
        Heard { epoch, frame, descriptor: None }
    }

    #[tokio::test]
    async fn waiting_output_is_taken_up_to_the_next_other_frame_and_connection() {
        let exec_id = ExecId::from(Uuid::from_u128(1));
        let (inbox, mut frames) = queue();
        let output = |offset| {
            let bytes = vec![7; MAX_OUTPUT_CHUNK_BYTES / 2 + 1];
            FromInit::Output { exec_id, stream: Stream::Stdout, offset, bytes }
        };
        let said = [
            (1, output(0)),
            (1, output(1)),
            (1, FromInit::Started { exec_id, again: false }),
            (2, output(1)),
        ];
        for (epoch, frame) in said {
            inbox.put(heard(epoch, frame)).expect("room");
        }
        assert_eq!(frames.next_output(1).map(|piece| piece.offset), Some(0));
        assert_eq!(frames.next_output(1).map(|piece| piece.offset), Some(1));
        assert!(frames.next_output(1).is_none());
        let other = frames.next().await.frame;
        assert!(matches!(other, FromInit::Started { .. }));
        assert!(frames.next_output(1).is_none());
        let later = frames.next().await;
        assert!(later.epoch == 2 && matches!(later.frame, FromInit::Output { offset: 1, .. }));
        assert!(frames.next_output(2).is_none());
    }

    #[tokio::test]
    async fn output_of_a_few_bytes_each_waits_in_few_frames() {
        let exec_id = ExecId::from(Uuid::from_u128(1));
        let (inbox, mut frames) = queue();
        let put = |epoch, stream, offset| {
            let frame = FromInit::Output { exec_id, stream, offset, bytes: vec![offset as u8] };
            inbox.put(heard(epoch, frame)).expect("room");
        };
        let count = 2 * MAX_OUTPUT_CHUNK_BYTES as u64;
        for offset in 0..count {
            put(1, Stream::Stdout, offset);
            put(1, Stream::Stderr, offset);
        }
        // Of another connection, and after a gap.
        put(2, Stream::Stdout, count);
        put(2, Stream::Stdout, count + 5);
        let mut seen = Vec::new();
        while let Some(Heard {
            epoch, frame: FromInit::Output { stream, offset, bytes, .. }, ..
        }) = frames.queue.pop()
        {
            assert!(bytes.iter().zip(offset..).all(|(byte, at)| *byte == at as u8));
            seen.push((epoch, stream.index(), offset, bytes.len()));
        }
        let half = MAX_OUTPUT_CHUNK_BYTES;
        assert_eq!(
            seen,
            [
                (1, 0, 0, half),
                (1, 1, 0, half),
                (1, 0, count / 2, half),
                (1, 1, count / 2, half),
                (2, 0, count, 1),
                (2, 0, count + 5, 1),
            ]
        );
        assert_eq!(frames.queue.lock().bytes, 0);
        assert!(frames.next_output(1).is_none());
    }

    #[tokio::test]
    async fn pieces_of_a_window_are_joined_to_their_like() {
        let exec_id = ExecId::from(Uuid::from_u128(1));
        let (inbox, mut frames) = queue();
        let shared =
            |stream, offset, length| heard(1, FromInit::Shared { exec_id, stream, offset, length });
        let here = |offset| {
            let bytes = vec![7; 10];
            heard(1, FromInit::Output { exec_id, stream: Stream::Stdout, offset, bytes })
        };
        let half = MAX_OUTPUT_CHUNK_BYTES as u32 / 2;
        for frame in [
            here(0),
            shared(Stream::Stdout, 10, 5),
            shared(Stream::Stderr, 0, 1),
            shared(Stream::Stdout, 15, half),
            shared(Stream::Stderr, 1, 1),
            // Too much for one, a gap, another kind, and more than there can be.
            shared(Stream::Stdout, 15 + u64::from(half), half),
            shared(Stream::Stdout, 7_000_000, 5),
            here(7_000_005),
            shared(Stream::Stdout, 7_000_015, u32::MAX),
            shared(Stream::Stdout, 7_000_015 + u64::from(u32::MAX), u32::MAX),
        ] {
            inbox.put(frame).expect("room");
        }
        let mut seen = Vec::new();
        while let Some(Piece { stream, offset, bytes }) = frames.next_output(1) {
            seen.push((stream.index(), offset, bytes.len()));
        }
        let half = half as usize;
        let end = 7_000_015 + u64::from(u32::MAX);
        assert_eq!(
            seen,
            [
                (0, 0, 10),
                (0, 10, 5 + half),
                (1, 0, 2),
                (0, 15 + half as u64, half),
                (0, 7_000_000, 5),
                (0, 7_000_005, 10),
                (0, 7_000_015, u32::MAX as usize),
                (0, end, u32::MAX as usize),
            ]
        );
        assert_eq!(frames.queue.lock().bytes, 0);
    }

    #[tokio::test]
    async fn one_that_nobody_hears_is_limited_and_one_that_waits_is_woken() {
        let exec_id = ExecId::from(Uuid::from_u128(1));
        let (inbox, mut frames) = queue();
        let output = || {
            let bytes = vec![7; WIDE_WINDOW_BYTES];
            let frame = FromInit::Output { exec_id, stream: Stream::Stdout, offset: 0, bytes };
            heard(1, frame)
        };
        for _ in 0..4 {
            inbox.put(output()).expect("room");
        }
        inbox.put(output()).expect_err("too much");
        frames.next().await;
        inbox.put(output()).expect("room again");
        for _ in 0..4 {
            frames.next().await;
        }
        let waiting = tokio::spawn(async move { frames.next().await.epoch });
        tokio::task::yield_now().await;
        inbox.put(Heard { epoch: 2, ..output() }).expect("room");
        assert_eq!(waiting.await.expect("it ends"), 2);
    }

    #[tokio::test]
    async fn descriptors_that_nobody_takes_are_limited() {
        let exec_id = ExecId::from(Uuid::from_u128(1));
        let (inbox, mut frames) = queue();
        let (pipe, _) = std::io::pipe().expect("a pipe");
        let share = || {
            let frame = FromInit::Share { exec_id, stream: Stream::Stdout, inode: 0 };
            let descriptor = Some(pipe.try_clone().expect("a descriptor").into());
            Heard { epoch: 1, frame, descriptor }
        };
        for _ in 0..MAX_DESCRIPTORS {
            inbox.put(share()).expect("room");
        }
        inbox.put(share()).expect_err("too many");
        frames.next().await;
        inbox.put(share()).expect("room again");
    }
}
