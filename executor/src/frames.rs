//! What one exec hears of PID 1, in order; output that waits can be taken in one go. Judges nothing.

use protocol::init::{FromInit, Stream};
use tokio::sync::mpsc::Receiver;

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

/// See the module.
pub(crate) struct Frames {
    queue: Receiver<Heard>,
    /// Taken out of the queue, and not heard yet.
    ahead: Option<Heard>,
}

impl Frames {
    /// What comes through this queue.
    pub(crate) fn new(queue: Receiver<Heard>) -> Self {
        Self { queue, ahead: None }
    }

    /// The next frame. Nothing is lost when nobody waits for it any more.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        match self.ahead.take() {
            Some(heard) => Some(heard),
            None => self.queue.recv().await,
        }
    }

    /// The next frame if it is there already, and is output by the connection `epoch`.
    pub(crate) fn next_output(&mut self, epoch: u64) -> Option<Piece> {
        let heard = self.ahead.take().or_else(|| self.queue.try_recv().ok())?;
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
    use tokio::sync::mpsc;
    use uuid::Uuid;

    #[tokio::test]
    async fn waiting_output_is_taken_up_to_the_next_other_frame_and_connection() {
        let exec_id = ExecId::from(Uuid::from_u128(1));
        let (sender, queue) = mpsc::channel(8);
        let output = |offset| {
            let bytes = vec![7];
            FromInit::Output { exec_id, stream: Stream::Stdout, offset, bytes }
        };
        let frames = [
            (1, output(0)),
            (1, output(1)),
            (1, FromInit::Started { exec_id, again: false }),
            (2, output(1)),
        ];
        for (epoch, frame) in frames {
            sender.send(Heard { epoch, frame }).await.expect("room");
        }
        let mut frames = Frames::new(queue);
        assert_eq!(frames.next_output(1).map(|piece| piece.offset), Some(0));
        assert_eq!(frames.next_output(1).map(|piece| piece.offset), Some(1));
        assert!(frames.next_output(1).is_none());
        let other = frames.next().await.map(|heard| heard.frame);
        assert!(matches!(other, Some(FromInit::Started { .. })));
        assert!(frames.next_output(1).is_none());
        let later = frames.next().await.expect("the last one");
        assert!(later.epoch == 2 && matches!(later.frame, FromInit::Output { offset: 1, .. }));
        assert!(frames.next_output(2).is_none());
    }
}
