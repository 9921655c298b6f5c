//! One stream on its way to the control plane: what has arrived, when the next try is due, and what
//! will never arrive. A try that fails is repeated; one that keeps failing for a reason of its own
//! ends in a loss, which is told until it is heard.

use std::time::Duration;

use domain::ids::ExecId;
use protocol::enrolment::{LossReason, LossReport};
use protocol::init::Stream;
use tokio::time::Instant;

use super::{PACE, Parcel};
use crate::backoff::Backoff;
use crate::control::{ControlError, ControlPlane};

/// Bytes of one call.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces of a stream that go out at a time while its command runs: 2.5 MB/s, more than anybody
/// follows. What a faster command prints waits for its end, instead of slowing it down.
const LIVE_PIECES: u32 = 1;
const MAX_WAIT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Way {
    stream: Stream,
    /// Bytes that the control plane has.
    offset: u64,
    loss: Option<Told>,
    backoff: Backoff,
    /// When the next try is due.
    next: Instant,
    /// Since when nothing worked although the control plane was there.
    failing_since: Option<Instant>,
    /// What the log was told last.
    said: String,
}

/// A loss, and whether the control plane knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet(LossReason),
    Heard,
    /// It wants to hear nothing of it: another life tries again.
    Never,
}

/// How a try ended.
enum Tried {
    /// Bytes arrived, up to here.
    Arrived(u64),
    /// The control plane is away, or says: not now.
    Later(ControlError),
    /// It failed, and may go on to do so: the reason that it would be lost for.
    Odd(LossReason, String),
    /// It cannot work any more.
    Final(LossReason, String),
}

impl Way {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            offset: 0,
            loss: None,
            backoff: Backoff::new(PACE, MAX_WAIT),
            next: Instant::now(),
            failing_since: None,
            said: String::new(),
        }
    }

    /// Whether nothing is left to do about what there is of the stream now.
    pub(super) fn is_done(&self, parcel: &Parcel) -> bool {
        match self.loss {
            None => self.offset >= self.stored(parcel) && !parcel.is_short(self.stream),
            Some(told) => !matches!(told, Told::NotYet(_)),
        }
    }

    /// Whether the control plane has the stream, or knows what it will never have of it.
    pub(super) fn is_settled(&self) -> bool {
        self.loss.is_none_or(|told| told == Told::Heard)
    }

    fn stored(&self, parcel: &Parcel) -> u64 {
        parcel.view(self.stream).bytes_stored()
    }

    /// Does what is due; of a stream whose command runs, a part at a time.
    pub(super) async fn advance(
        &mut self,
        control: &ControlPlane,
        parcel: &Parcel,
        patience: Duration,
    ) {
        let mut left = LIVE_PIECES;
        while !self.is_done(parcel) && self.next <= Instant::now() && !parcel.phase().abandoned {
            if let Some(Told::NotYet(reason)) = self.loss {
                self.tell(control, parcel.exec_id, reason, patience).await;
                continue;
            }
            if left == 0 && !parcel.phase().recorded {
                return;
            }
            left = left.saturating_sub(1);
            let tried = self.try_piece(control, parcel).await;
            self.take_in(parcel.exec_id, tried, patience);
        }
    }

    async fn try_piece(&mut self, control: &ControlPlane, parcel: &Parcel) -> Tried {
        if self.offset >= self.stored(parcel) {
            return Tried::Final(LossReason::Unreadable, "less is kept than was printed".into());
        }
        let bytes = match parcel.view(self.stream).read(self.offset, PIECE_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) => {
                use std::io::ErrorKind::{NotFound, UnexpectedEof};
                // What is counted as stored was written: it was removed, or cut off.
                let gone = matches!(error.kind(), NotFound | UnexpectedEof);
                let tried = if gone { Tried::Final } else { Tried::Odd };
                return tried(LossReason::Unreadable, error.to_string());
            }
        };
        match control.put_output(parcel.exec_id, self.stream, self.offset, bytes).await {
            Ok(total) if total > self.offset => Tried::Arrived(total),
            Ok(total) => {
                // It may have less than we thought.
                self.offset = total;
                Tried::Odd(LossReason::Refused, "nothing of it is taken".into())
            }
            // A successor ships it: the files and the journal stay as they are.
            Err(ControlError::Fenced) => std::future::pending().await,
            Err(error @ ControlError::Moved) => Tried::Final(LossReason::Moved, error.to_string()),
            Err(error @ ControlError::Malformed(_)) => {
                Tried::Odd(LossReason::Refused, error.to_string())
            }
            Err(error) if error.is_transient() => Tried::Later(error),
            Err(error) => Tried::Odd(LossReason::Refused, error.to_string()),
        }
    }

    fn take_in(&mut self, exec: ExecId, tried: Tried, patience: Duration) {
        match tried {
            Tried::Arrived(total) => {
                self.offset = total;
                self.backoff.reset();
                self.failing_since = None;
            }
            Tried::Later(error) => {
                self.say(exec, "output waits", &error.to_string());
                self.wait();
            }
            Tried::Odd(reason, why) if self.is_over(patience) => self.lose(exec, reason, &why),
            Tried::Odd(_, why) => {
                self.say(exec, "output is not taken; trying again", &why);
                self.wait();
            }
            Tried::Final(reason, why) => self.lose(exec, reason, &why),
        }
    }

    fn lose(&mut self, exec: ExecId, reason: LossReason, why: &str) {
        let (stream, from) = (self.stream.as_str(), self.offset);
        tracing::error!(%exec, stream, from, reason = reason.as_str(), why,
            "the rest of its output is lost");
        self.loss = Some(Told::NotYet(reason));
        self.backoff.reset();
        self.failing_since = None;
    }

    async fn tell(
        &mut self,
        control: &ControlPlane,
        exec: ExecId,
        reason: LossReason,
        patience: Duration,
    ) {
        let report = LossReport { stream: self.stream.as_str().into(), reason };
        match control.report_loss(exec, &report).await {
            // Who knows nothing of the exec, or has it elsewhere, tells no client of its output.
            Ok(()) | Err(ControlError::Gone(_) | ControlError::Moved) => {
                self.loss = Some(Told::Heard);
            }
            Err(ControlError::Fenced) => std::future::pending().await,
            Err(error) => {
                self.say(
                    exec,
                    "a loss of output could not be told; trying again",
                    &error.to_string(),
                );
                if !error.is_transient() && self.is_over(patience) {
                    self.loss = Some(Told::Never);
                }
                self.wait();
            }
        }
    }

    /// Whether it has failed for longer than it may, counted from the first call of this on.
    fn is_over(&mut self, patience: Duration) -> bool {
        self.failing_since.get_or_insert_with(Instant::now).elapsed() >= patience
    }

    fn wait(&mut self) {
        self.next = Instant::now() + self.backoff.next_wait();
    }

    /// Logs, once per change.
    fn say(&mut self, exec: ExecId, what: &str, why: &str) {
        if self.said != why {
            tracing::warn!(%exec, stream = self.stream.as_str(), why, "{what}");
            why.clone_into(&mut self.said);
        }
    }
}
