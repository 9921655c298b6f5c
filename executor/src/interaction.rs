//! What clients want of a running exec: more input, signals, another size of its terminal. Turns
//! wishes into frames, one piece of input at a time, and PID 1's words into answers. Knows no
//! connection; who waits for an answer that never comes hears it by the sender's end.

use std::collections::VecDeque;

use domain::ids::ExecId;
use protocol::init::{TerminalSize, ToInit};
use tokio::sync::{mpsc, oneshot};

/// Wishes that wait for one exec.
const QUEUE: usize = 16;
/// Signals that wait for PID 1's word.
const MAX_SIGNALS: usize = 16;

/// Something that a client wants of a running exec.
pub(crate) struct Wish {
    pub(crate) what: What,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// See [`Wish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// Input, at most `MAX_CHUNK_BYTES` of it; without an offset, after what was taken before.
    Input { offset: Option<u64>, bytes: Vec<u8>, close: bool },
    /// A signal for all of its processes.
    Signal(i32),
    /// Another size of its terminal.
    Resize(TerminalSize),
}

/// What came of a [`Wish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The input was offered at `from`; up to `taken` PID 1 has it.
    Taken { from: u64, taken: u64, open: bool },
    /// Done, as far as anybody can tell.
    Done,
    /// No process of it is left.
    NotRunning,
    /// It was started without open input, or without a terminal.
    NotInteractive,
    /// The connection broke: it may have happened or not.
    Unknown,
}

/// How an exec can be interacted with, as it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Means {
    pub(crate) input: bool,
    pub(crate) terminal: bool,
}

/// The end that wishes come by.
pub(crate) type Wishes = mpsc::Receiver<Wish>;

/// A way to bring wishes to one exec.
pub(crate) fn channel() -> (mpsc::Sender<Wish>, Wishes) {
    mpsc::channel(QUEUE)
}

/// See the module.
pub(crate) struct Interaction {
    exec_id: ExecId,
    means: Means,
    wishes: Wishes,
    /// PID 1 listens.
    attached: bool,
    /// Bytes of input that PID 1 has, once that is known.
    taken: Option<u64>,
    /// The one piece of input that is under way.
    piece: Option<Piece>,
    signals: VecDeque<oneshot::Sender<Answer>>,
}

struct Piece {
    offset: Option<u64>,
    bytes: Vec<u8>,
    close: bool,
    answer: oneshot::Sender<Answer>,
}

impl Interaction {
    /// With an exec whose input PID 1 may know more of than we do.
    pub(crate) fn new(exec_id: ExecId, means: Means, wishes: Wishes) -> Self {
        let signals = VecDeque::new();
        Self { exec_id, means, wishes, attached: false, taken: None, piece: None, signals }
    }

    /// The next wish, once PID 1 listens and there is room for it. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Wish {
        if self.attached
            && self.piece.is_none()
            && self.signals.len() < MAX_SIGNALS
            && let Some(wish) = self.wishes.recv().await
        {
            return wish;
        }
        std::future::pending().await
    }

    /// The frame that a wish needs, if any. Must be sent on an attached connection.
    pub(crate) fn begin(&mut self, wish: Wish) -> Option<ToInit> {
        let Wish { what, answer } = wish;
        let exec_id = self.exec_id;
        if answer.is_closed() {
            return None;
        }
        match what {
            What::Input { offset, bytes, close } if self.means.input => {
                self.piece = Some(Piece { offset, bytes, close, answer });
                self.offer()
            }
            What::Resize(size) if self.means.terminal => {
                let _ = answer.send(Answer::Done);
                Some(ToInit::Resize { exec_id, size })
            }
            What::Signal(signal) => {
                self.signals.push_back(answer);
                Some(ToInit::Signal { exec_id, signal })
            }
            What::Input { .. } | What::Resize(_) => {
                let _ = answer.send(Answer::NotInteractive);
                None
            }
        }
    }

    /// A new connection is attached: the piece that was under way is offered again, which its
    /// offset makes harmless. `first` when the command has just been started by it.
    pub(crate) fn attached(&mut self, first: bool) -> Option<ToInit> {
        self.attached = true;
        if first {
            self.taken = Some(0);
        }
        if self.piece.as_ref().is_some_and(|piece| piece.answer.is_closed()) {
            self.piece = None;
            self.taken = None;
        }
        self.offer()
    }

    /// The connection is gone. A signal is not sent twice, so nobody knows.
    pub(crate) fn detached(&mut self) {
        self.attached = false;
        for answer in self.signals.drain(..) {
            let _ = answer.send(Answer::Unknown);
        }
    }

    /// PID 1 tells how much input it has. Gives the next frame, if there is one to send.
    pub(crate) fn stdin_taken(&mut self, taken: u64, open: bool) -> Option<ToInit> {
        self.taken = Some(taken);
        let piece = self.piece.take()?;
        match piece.offset {
            // That was asked for, to know where to go on.
            None if open => {
                self.piece = Some(piece);
                self.offer()
            }
            offset => {
                let from = offset.unwrap_or(taken);
                let _ = piece.answer.send(Answer::Taken { from, taken, open });
                None
            }
        }
    }

    /// PID 1 tells what became of the oldest signal.
    pub(crate) fn signalled(&mut self, delivered: bool) {
        if let Some(answer) = self.signals.pop_front() {
            let _ = answer.send(if delivered { Answer::Done } else { Answer::NotRunning });
        }
    }

    fn offer(&mut self) -> Option<ToInit> {
        let (exec_id, taken) = (self.exec_id, self.taken);
        let piece = self.piece.as_mut()?;
        piece.offset = piece.offset.or(taken);
        Some(match piece.offset {
            Some(offset) => {
                let (bytes, close) = (piece.bytes.clone(), piece.close);
                ToInit::Stdin { exec_id, offset, bytes, close }
            }
            // An earlier life may have sent some: nothing, offered at the start, tells how much.
            None => ToInit::Stdin { exec_id, offset: 0, bytes: Vec::new(), close: false },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ALL: Means = Means { input: true, terminal: true };

    struct Probe(Interaction);

    impl Probe {
        fn new(means: Means) -> Self {
            Self(Interaction::new(Uuid::from_u128(1).into(), means, channel().1))
        }

        fn wish(&mut self, what: What) -> (Option<ToInit>, oneshot::Receiver<Answer>) {
            let (answer, heard) = oneshot::channel();
            (self.0.begin(Wish { what, answer }), heard)
        }

        fn input(&mut self, offset: Option<u64>, bytes: &[u8]) -> oneshot::Receiver<Answer> {
            let bytes = bytes.to_vec();
            self.wish(What::Input { offset, bytes, close: false }).1
        }
    }

    fn stdin(frame: Option<ToInit>) -> (u64, Vec<u8>) {
        match frame {
            Some(ToInit::Stdin { offset, bytes, .. }) => (offset, bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn input_without_an_offset_goes_behind_what_was_taken() {
        let mut probe = Probe::new(ALL);
        assert!(probe.0.attached(true).is_none());
        let mut first = probe.input(None, b"abc");
        assert!(probe.0.stdin_taken(2, true).is_none());
        assert_eq!(first.try_recv(), Ok(Answer::Taken { from: 0, taken: 2, open: true }));
        let (frame, _) =
            probe.wish(What::Input { offset: None, bytes: b"cd".to_vec(), close: true });
        assert_eq!(stdin(frame), (2, b"cd".to_vec()));
    }

    #[test]
    fn after_a_restart_pid_1_is_asked_how_far_it_is() {
        let mut probe = Probe::new(ALL);
        assert!(probe.0.attached(false).is_none());
        let (answer, mut heard) = oneshot::channel();
        let what = What::Input { offset: None, bytes: b"x".to_vec(), close: false };
        assert_eq!(stdin(probe.0.begin(Wish { what, answer })), (0, Vec::new()));
        assert_eq!(stdin(probe.0.stdin_taken(7, true)), (7, b"x".to_vec()));
        assert!(probe.0.stdin_taken(8, true).is_none());
        assert_eq!(heard.try_recv(), Ok(Answer::Taken { from: 7, taken: 8, open: true }));
    }

    #[test]
    fn a_piece_under_way_is_offered_again_at_its_place_and_a_signal_is_not() {
        let mut probe = Probe::new(ALL);
        probe.0.attached(true);
        let mut input = probe.input(None, b"abc");
        let (_, mut signal) = probe.wish(What::Signal(2));
        probe.0.detached();
        assert_eq!(signal.try_recv(), Ok(Answer::Unknown));
        assert_eq!(stdin(probe.0.attached(false)), (0, b"abc".to_vec()));
        probe.0.stdin_taken(3, false);
        assert_eq!(input.try_recv(), Ok(Answer::Taken { from: 0, taken: 3, open: false }));
    }

    #[test]
    fn a_piece_that_nobody_waits_for_any_more_is_not_offered_again() {
        let mut probe = Probe::new(ALL);
        probe.0.attached(true);
        drop(probe.input(None, b"abc"));
        probe.0.detached();
        assert!(probe.0.attached(false).is_none());
        let what = What::Input { offset: None, bytes: b"x".to_vec(), close: false };
        let (frame, _heard) = probe.wish(what);
        assert_eq!(stdin(frame), (0, Vec::new()), "it may have been taken");
    }

    #[test]
    fn signals_are_answered_in_their_order() {
        let mut probe = Probe::new(ALL);
        let (frame, mut first) = probe.wish(What::Signal(2));
        assert!(matches!(frame, Some(ToInit::Signal { signal: 2, .. })));
        let (_, mut second) = probe.wish(What::Signal(15));
        probe.0.signalled(true);
        probe.0.signalled(false);
        probe.0.signalled(true);
        assert_eq!(first.try_recv(), Ok(Answer::Done));
        assert_eq!(second.try_recv(), Ok(Answer::NotRunning));
    }

    #[test]
    fn what_an_exec_was_started_without_is_refused() {
        let mut probe = Probe::new(Means { input: false, terminal: false });
        let resize = What::Resize(TerminalSize { rows: 1, cols: 1 });
        let input = What::Input { offset: None, bytes: Vec::new(), close: true };
        for what in [resize, input] {
            let (frame, mut heard) = probe.wish(what);
            assert!(frame.is_none());
            assert_eq!(heard.try_recv(), Ok(Answer::NotInteractive));
        }
    }

    #[test]
    fn words_of_pid_1_that_nobody_asked_for_do_nothing() {
        let mut probe = Probe::new(ALL);
        assert!(probe.0.stdin_taken(u64::MAX, true).is_none());
        probe.0.signalled(true);
        let mut heard = probe.input(Some(5), b"x");
        probe.0.stdin_taken(3, true);
        assert_eq!(heard.try_recv(), Ok(Answer::Taken { from: 5, taken: 3, open: true }));
    }
}
