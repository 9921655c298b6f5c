//! Input, signals and terminal sizes for an exec that runs. One body of input after another.

use std::time::Duration;

use futures::StreamExt as _;
use protocol::calls::CallReply;
use protocol::init::{MAX_CHUNK_BYTES, TerminalSize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::CallError;
use super::replica::{ClientBody, Replica};
use crate::backoff::Backoff;
use crate::interaction::{Answer, What, Wish};
use crate::runs::Line;

/// How soon input that was not taken is offered again.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// Brings a client's body to an exec; at `until` it tells how far it came.
pub(super) async fn bring_input(
    line: &Line,
    replica: &Replica,
    offset: Option<u64>,
    close: bool,
    until: Instant,
) -> Result<CallReply, CallError> {
    let _turn = line.input.lock().await;
    pour(line, replica.get_body().await?, offset, close, until).await
}

async fn pour(
    line: &Line,
    mut body: ClientBody,
    offset: Option<u64>,
    close: bool,
    until: Instant,
) -> Result<CallReply, CallError> {
    let mut pourer = Pourer { line, at: offset, until, known: None };
    while let Some(chunk) = body.next().await {
        for piece in chunk?.chunks(MAX_CHUNK_BYTES) {
            if let Some(reply) = pourer.offer(piece.to_vec()).await {
                return Ok(reply);
            }
        }
    }
    // Nothing, behind all of it: tells where that is, and closes if it shall.
    let what = What::Input { offset: pourer.at, bytes: Vec::new(), close };
    Ok(match ask(line, what).await {
        Some(Answer::Taken { taken, open, .. }) => CallReply::Stdin { offset: taken, open },
        Some(Answer::NotInteractive) => CallReply::NotInteractive,
        _ => pourer.ended(),
    })
}

struct Pourer<'a> {
    line: &'a Line,
    /// Position of the next byte.
    at: Option<u64>,
    until: Instant,
    /// Bytes that PID 1 is known to have.
    known: Option<u64>,
}

impl Pourer<'_> {
    /// Offers a piece until it is taken. A reply means that no more has to be offered.
    async fn offer(&mut self, mut bytes: Vec<u8>) -> Option<CallReply> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        loop {
            let what = What::Input { offset: self.at, bytes: bytes.clone(), close: false };
            let (from, taken, open) = match ask(self.line, what).await {
                Some(Answer::Taken { from, taken, open }) => (from, taken, open),
                Some(Answer::NotInteractive) => return Some(CallReply::NotInteractive),
                _ => return Some(self.ended()),
            };
            self.known = Some(taken);
            let stop = CallReply::Stdin { offset: taken, open };
            let end = from.saturating_add(bytes.len() as u64);
            if taken >= end {
                self.at = Some(end);
                return (!open).then_some(stop);
            }
            // Before `from` there is a gap that only the client can fill.
            let Some(new) = taken.checked_sub(from) else { return Some(stop) };
            if !open || Instant::now() >= self.until {
                return Some(stop);
            }
            bytes.drain(..usize::try_from(new).unwrap_or(bytes.len()).min(bytes.len()));
            self.at = Some(taken);
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    fn ended(&self) -> CallReply {
        match self.known {
            Some(offset) => CallReply::Stdin { offset, open: false },
            None => CallReply::NotRunning,
        }
    }
}

/// Sends a signal to all of an exec's processes.
pub(super) async fn send_signal(line: Option<Line>, signal: i32) -> CallReply {
    if !(1..=64).contains(&signal) {
        return CallReply::Unavailable("there is no such signal: send one from 1 to 64".into());
    }
    reply_to(line, What::Signal(signal)).await
}

/// Gives an exec's terminal another size.
pub(super) async fn resize(line: Option<Line>, size: TerminalSize) -> CallReply {
    reply_to(line, What::Resize(size)).await
}

async fn reply_to(line: Option<Line>, what: What) -> CallReply {
    let Some(line) = line else { return CallReply::NotRunning };
    match ask(&line, what).await {
        Some(Answer::Done) => CallReply::Done,
        Some(Answer::NotInteractive) => CallReply::NotInteractive,
        Some(Answer::Unknown) => CallReply::Unavailable(
            "the connection to the sandbox broke: it is not known whether it happened".into(),
        ),
        Some(Answer::NotRunning | Answer::Taken { .. }) | None => CallReply::NotRunning,
    }
}

/// The answer to a wish; `None` when the exec ended first.
async fn ask(line: &Line, what: What) -> Option<Answer> {
    let (answer, heard) = oneshot::channel();
    line.wishes.send(Wish { what, answer }).await.ok()?;
    heard.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::{self, Wishes};
    use bytes::Bytes;
    use futures::stream;
    use std::sync::Arc;

    fn line() -> (Line, Wishes) {
        let (wishes, wished) = interaction::channel();
        (Line { wishes, input: Arc::default() }, wished)
    }

    fn body(pieces: Vec<Result<Bytes, CallError>>) -> ClientBody {
        stream::iter(pieces).boxed()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// Takes at most `room` bytes of each offer, from `taken` on. Gives what it took.
    async fn reader(mut wishes: Wishes, mut taken: u64, room: usize) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        while let Some(wish) = wishes.recv().await {
            let What::Input { offset, bytes, close } = wish.what else { continue };
            let from = offset.unwrap_or(taken);
            if let Some(known) = taken.checked_sub(from).map(|known| known as usize) {
                let new = bytes.get(known..).unwrap_or_default();
                let new = &new[..new.len().min(room)];
                all.extend_from_slice(new);
                taken += new.len() as u64;
            }
            let _ = wish.answer.send(Answer::Taken { from, taken, open: !close });
            if close {
                return (all, true);
            }
        }
        (all, false)
    }

    #[tokio::test]
    async fn a_slow_reader_gets_every_byte_once() {
        let (line, wishes) = line();
        let reading = tokio::spawn(reader(wishes, 5, 30_000));
        let all: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let pieces = vec![Ok(Bytes::from(all.clone())), Ok(Bytes::from_static(b"end"))];
        let reply = pour(&line, body(pieces), None, true, soon()).await.expect("a reply");
        assert_eq!(reply, CallReply::Stdin { offset: 200_008, open: false });
        let (seen, closed) = reading.await.expect("reads");
        assert!(closed && seen == [all.as_slice(), b"end"].concat());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_does_not_close_the_input() {
        let (line, wishes) = line();
        let reading = tokio::spawn(reader(wishes, 0, 1000));
        let pieces = vec![Ok(Bytes::from_static(b"half")), Err(CallError::BodyBroken)];
        let broken = pour(&line, body(pieces), None, true, soon()).await;
        assert!(matches!(broken, Err(CallError::BodyBroken)));
        drop(line);
        assert_eq!(reading.await.expect("reads"), (b"half".to_vec(), false));
    }

    #[tokio::test]
    async fn a_repetition_is_skipped_and_a_gap_is_told() {
        let (line, wishes) = line();
        let reading = tokio::spawn(reader(wishes, 4, 1000));
        let said = |text: &'static [u8]| body(vec![Ok(Bytes::from_static(text))]);
        let reply = pour(&line, said(b"abcdef"), Some(0), false, soon()).await.expect("a reply");
        assert_eq!(reply, CallReply::Stdin { offset: 6, open: true });
        let reply = pour(&line, said(b"xyz"), Some(9), false, soon()).await.expect("a reply");
        assert_eq!(reply, CallReply::Stdin { offset: 6, open: true });
        drop(line);
        assert_eq!(reading.await.expect("reads").0, b"ef");
    }

    #[tokio::test]
    async fn who_never_reads_is_told_of_in_time() {
        let (line, wishes) = line();
        let _reading = tokio::spawn(reader(wishes, 0, 0));
        let pieces = body(vec![Ok(Bytes::from_static(b"abc"))]);
        let until = Instant::now() + Duration::from_millis(50);
        let reply = pour(&line, pieces, None, true, until).await.expect("a reply");
        assert_eq!(reply, CallReply::Stdin { offset: 0, open: true });
    }

    #[tokio::test]
    async fn an_exec_that_ended_is_not_running() {
        let (line, wishes) = line();
        drop(wishes);
        let reply = pour(&line, body(Vec::new()), None, true, soon()).await.expect("a reply");
        assert_eq!(reply, CallReply::NotRunning);
        assert_eq!(send_signal(Some(line), 2).await, CallReply::NotRunning);
        assert_eq!(send_signal(None, 2).await, CallReply::NotRunning);
        assert!(matches!(send_signal(None, 65).await, CallReply::Unavailable(_)));
    }
}
