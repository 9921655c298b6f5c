//! A client's body on its way into a helper's standard input: one frame at a time, offered again
//! where PID 1 had no room. Closes the input only behind the last byte of a whole body.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use domain::ids::ExecId;
use protocol::init::{MAX_CHUNK_BYTES, ToInit};
use tokio::time::Instant;

/// How long to wait before what was not taken is offered again.
const PAUSE: Duration = Duration::from_millis(5);

/// See the module.
pub(super) struct Feed {
    /// What was not taken yet.
    rest: Bytes,
    /// Position of its first byte in the body.
    offset: u64,
    /// Bytes that PID 1 was offered and has not answered for.
    offered: Option<usize>,
    retry_at: Option<Instant>,
    /// The body has no more bytes than those in `rest`.
    whole: bool,
    /// PID 1 was told of the end, or takes no more.
    over: bool,
}

impl Feed {
    /// For a helper that reads a body.
    pub(super) fn open() -> Self {
        let rest = Bytes::new();
        Self { rest, offset: 0, offered: None, retry_at: None, whole: false, over: false }
    }

    /// For a helper that reads nothing.
    pub(super) fn closed() -> Self {
        Self { over: true, ..Self::open() }
    }

    /// Whether the next piece of the body is wanted now.
    pub(super) fn is_hungry(&self) -> bool {
        !self.over && !self.whole && self.rest.is_empty()
    }

    /// A piece of the body.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.rest = piece;
    }

    /// The body is whole.
    pub(super) fn finish(&mut self) {
        self.whole = true;
    }

    /// When to call [`Feed::next_frame`] again although nothing happens.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// What PID 1 is to be told now, if anything.
    pub(super) fn next_frame(&mut self, exec_id: ExecId, now: Instant) -> Option<ToInit> {
        if self.over || self.offered.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        self.retry_at = None;
        let offset = self.offset;
        if !self.rest.is_empty() {
            let count = self.rest.len().min(MAX_CHUNK_BYTES);
            self.offered = Some(count);
            let bytes = self.rest[..count].to_vec();
            return Some(ToInit::Stdin { exec_id, offset, bytes, close: false });
        }
        self.over = self.whole;
        self.over.then(|| ToInit::Stdin { exec_id, offset, bytes: Vec::new(), close: true })
    }

    /// PID 1's answer. It may be any number: no more counts than was offered.
    pub(super) fn taken(&mut self, taken: u64, open: bool, now: Instant) {
        let Some(offered) = self.offered.take() else { return };
        let new = usize::try_from(taken.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let new = new.min(offered);
        self.rest.advance(new);
        self.offset += new as u64;
        if new < offered {
            self.retry_at = Some(now + PAUSE);
        }
        if !open {
            self.over = true;
            self.rest = Bytes::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn frame(feed: &mut Feed, now: Instant) -> Option<(u64, usize, bool)> {
        match feed.next_frame(Uuid::from_u128(1).into(), now)? {
            ToInit::Stdin { offset, bytes, close, .. } => Some((offset, bytes.len(), close)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_not_taken_is_offered_again_after_a_pause() {
        let (mut feed, now) = (Feed::open(), Instant::now());
        feed.push(Bytes::from(vec![7; 100_000]));
        assert_eq!(frame(&mut feed, now), Some((0, MAX_CHUNK_BYTES, false)));
        assert_eq!(frame(&mut feed, now), None, "one at a time");
        feed.taken(1000, true, now);
        assert_eq!(frame(&mut feed, now), None, "not at once");
        let later = feed.retry_at().expect("a time");
        assert_eq!(frame(&mut feed, later), Some((1000, MAX_CHUNK_BYTES, false)));
        feed.taken(1000 + MAX_CHUNK_BYTES as u64, true, later);
        assert_eq!(frame(&mut feed, later), Some((66_536, 33_464, false)));
        assert!(!feed.is_hungry());
        feed.taken(100_000, true, later);
        assert!(feed.is_hungry());
    }

    #[test]
    fn the_input_is_closed_behind_a_whole_body_only() {
        let (mut feed, now) = (Feed::open(), Instant::now());
        feed.push(Bytes::from_static(b"abc"));
        assert_eq!(frame(&mut feed, now), Some((0, 3, false)));
        feed.taken(3, true, now);
        assert_eq!(frame(&mut feed, now), None, "more may come");
        feed.finish();
        assert_eq!(frame(&mut feed, now), Some((3, 0, true)));
        assert_eq!(frame(&mut feed, now), None);
        assert!(!feed.is_hungry());
    }

    #[test]
    fn impossible_answers_count_no_more_than_was_offered() {
        let (mut feed, now) = (Feed::open(), Instant::now());
        feed.taken(u64::MAX, true, now);
        feed.push(Bytes::from_static(b"abc"));
        assert_eq!(frame(&mut feed, now), Some((0, 3, false)));
        feed.taken(u64::MAX, true, now);
        feed.push(Bytes::from_static(b"d"));
        assert_eq!(frame(&mut feed, now), Some((3, 1, false)));
        feed.taken(0, false, now);
        assert!(!feed.is_hungry());
        feed.finish();
        assert_eq!(frame(&mut feed, now), None, "it takes no more");
    }
}
