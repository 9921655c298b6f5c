//! What one exec hears of PID 1, in order; output that waits can be taken in one go. Whoever puts it
//! there never waits: a slow exec must not keep back what others are told. Judges nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::init::{FromInit, MAX_OUTPUT_CHUNK_BYTES, Stream, WIDE_WINDOW_BYTES};
use tokio::sync::Notify;

/// Most that waits for one exec, in bytes: what PID 1 holds of its two streams until it is
/// acknowledged, as much again after a reconnect, and what else it says.
const MAX_WAITING_BYTES: usize = 5 * WIDE_WINDOW_BYTES;
/// What a frame counts beside its output.
const FRAME_BYTES: usize = 256;

/// A frame of PID 1, with the connection that it came by.
pub(crate) struct Heard {
    pub(crate) epoch: u64,
    pub(crate) frame: FromInit,
}

/// A piece of a stream.
pub(crate) struct Piece {
    pub(crate) stream: Stream,
    /// Position of the first byte.
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
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
            if bytes > MAX_WAITING_BYTES {
                return Err(TooMuch);
            }
            waiting.bytes = bytes;
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
        let FromInit::Output { stream, offset, bytes, .. } = &heard.frame else {
            return Some(heard);
        };
        let length = bytes.len();
        let mut last =
            self.frames.iter_mut().rev().take(2).map_while(|waiting| match &mut waiting.frame {
                FromInit::Output { stream, offset, bytes, .. } if waiting.epoch == heard.epoch => {
                    Some((*stream, *offset, bytes))
                }
                _ => None,
            });
        match last.find(|(its, ..)| its == stream) {
            Some((_, begin, before))
                if begin + before.len() as u64 == *offset
                    && before.len() + length <= MAX_OUTPUT_CHUNK_BYTES =>
            {
                before.extend_from_slice(bytes);
                self.bytes += length;
                None
            }
            _ => Some(heard),
        }
    }
}

impl Queue {
    fn pop(&self) -> Option<Heard> {
        let mut waiting = self.lock();
        let heard = waiting.frames.pop_front()?;
        waiting.bytes -= bytes_of(&heard);
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
        match heard {
            Heard { epoch: its, frame: FromInit::Output { stream, offset, bytes, .. } }
                if its == epoch =>
            {
                Some(Piece { stream, offset, bytes })
            }
            other => {
                self.ahead = Some(other);
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
            inbox.put(Heard { epoch, frame }).expect("room");
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
            inbox.put(Heard { epoch, frame }).expect("room");
        };
        let count = 2 * MAX_OUTPUT_CHUNK_BYTES as u64;
        for offset in 0..count {
            put(1, Stream::Stdout, offset);
            put(1, Stream::Stderr, offset);
        }
        // Of another connection, and after a gap.
        put(2, Stream::Stdout, count);
        put(2, Stream::Stdout, count + 5);
        let mut heard = Vec::new();
        while let Some(Heard { epoch, frame: FromInit::Output { stream, offset, bytes, .. } }) =
            frames.queue.pop()
        {
            assert!(bytes.iter().zip(offset..).all(|(byte, at)| *byte == at as u8));
            heard.push((epoch, stream.index(), offset, bytes.len()));
        }
        let half = MAX_OUTPUT_CHUNK_BYTES;
        assert_eq!(
            heard,
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
    async fn one_that_nobody_hears_is_limited_and_one_that_waits_is_woken() {
        let exec_id = ExecId::from(Uuid::from_u128(1));
        let (inbox, mut frames) = queue();
        let output = || {
            let bytes = vec![7; WIDE_WINDOW_BYTES];
            let frame = FromInit::Output { exec_id, stream: Stream::Stdout, offset: 0, bytes };
            Heard { epoch: 1, frame }
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
}
