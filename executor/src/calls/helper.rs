//! One run of the program that works on files, by one connection to PID 1: feeds it, hears it, ends
//! it. It runs among hostile commands: what comes from it is bytes without any meaning yet, and
//! no more of them are held than one frame and a little of what it complains about.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use domain::ids::ExecId;
use futures::StreamExt as _;
use protocol::init::{Exit, FromInit, Start, Stream, ToInit};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

use super::CallError;
use super::feed::Feed;
use super::replica::ClientBody;
use crate::frames::Heard;
use crate::hold::{FileUse, Hold};
use crate::sandbox::{Connection, Ear, Lease};

/// Bytes of standard error that are kept; the rest is dropped.
const MAX_STDERR_BYTES: usize = 64 * 1024;
/// How long changes of files wait for a git command that rests on them.
const HOLD_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may run before Docker is asked whether it can.
const PAUSE_PATIENCE: Duration = Duration::from_secs(5);

/// The helper did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperError {
    #[error("PID 1 could not start it")]
    Refused,
    #[error("the connection to the sandbox broke")]
    Disconnected,
    #[error("its output has gaps")]
    Incomplete,
    #[error("git rests on the files")]
    Busy,
    #[error("the container is paused")]
    Paused,
    #[error(transparent)]
    Call(#[from] CallError),
}

/// What the helper does.
pub(super) enum Event {
    /// It wrote to standard output. Acknowledged when the next event is asked for.
    Piece(Vec<u8>),
    /// It ended.
    End(Exit),
}

/// See the module. Dropped before its end, it is ended, and its input never looked whole.
pub(super) struct Helper {
    exec_id: ExecId,
    sandbox: Lease,
    connection: Connection,
    ear: Ear,
    body: Option<ClientBody>,
    feed: Feed,
    /// Waits until files may be changed: the body's end is kept back until then, so that nobody else
    /// waits for a slow client.
    gate: Option<Gate>,
    hold: Hold,
    paused: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Bytes of each stream so far, by [`Stream::index`].
    received: [u64; 2],
    stderr: Vec<u8>,
    ended: bool,
}

impl Helper {
    /// Starts it, with a client's body as its input or none.
    pub(super) fn start(
        sandbox: Lease,
        connection: Connection,
        start: Start,
        body: Option<ClientBody>,
        hold: Hold,
    ) -> Self {
        let exec_id = start.exec_id;
        let mut ear = sandbox.listen(exec_id);
        // The connection may have broken since it was handed out.
        ear.presence.mark_changed();
        connection.send(ToInit::Start(start));
        let feed = if body.is_some() { Feed::open() } else { Feed::closed() };
        let (received, stderr) = ([0; 2], Vec::new());
        let (gate, ended) = (None, false);
        let paused = Box::pin(ear.wait_for_pause(Instant::now() + PAUSE_PATIENCE));
        Self {
            exec_id,
            sandbox,
            connection,
            ear,
            body,
            feed,
            gate,
            hold,
            paused,
            received,
            stderr,
            ended,
        }
    }

    /// What it complained about.
    pub(super) fn stderr(&self) -> &[u8] {
        &self.stderr
    }

    /// What it does next.
    pub(super) async fn next(&mut self) -> Result<Event, HelperError> {
        self.acknowledge(Stream::Stdout);
        loop {
            if let Some(frame) = self.feed.next_frame(self.exec_id, Instant::now()) {
                self.connection.send(frame);
            }
            let (retry, hungry) = (self.feed.retry_at(), self.feed.is_hungry());
            let hungry = hungry && self.gate.is_none();
            tokio::select! {
                // Frames first: what PID 1 said before it died must not be lost.
                biased;
                heard = self.ear.frames.next() => {
                    if let Some(event) = self.hear(heard)? {
                        return Ok(event);
                    }
                }
                _ = self.ear.presence.changed() => self.check_presence()?,
                piece = next_piece(&mut self.body), if hungry => match piece {
                    Some(piece) => self.feed.push(piece?),
                    None => self.gate = Some(gate(self.sandbox.files.take(FileUse::Changes))),
                },
                passed = pass(&mut self.gate) => {
                    self.hold = passed.map_err(|_| HelperError::Busy)?;
                    self.gate = None;
                    self.feed.finish();
                }
                () = &mut self.paused => return Err(HelperError::Paused),
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
            }
        }
    }

    fn check_presence(&mut self) -> Result<(), HelperError> {
        let presence = self.ear.presence.borrow_and_update();
        let connection = presence.connection.as_ref();
        let same = connection.is_some_and(|now| now.epoch == self.connection.epoch);
        if same { Ok(()) } else { Err(HelperError::Disconnected) }
    }

    fn hear(&mut self, heard: Heard) -> Result<Option<Event>, HelperError> {
        if heard.epoch != self.connection.epoch {
            return Ok(None);
        }
        match heard.frame {
            FromInit::Output { stream, offset, bytes, .. } => {
                let received = &mut self.received[stream.index()];
                if offset != *received {
                    return Err(HelperError::Incomplete);
                }
                *received += bytes.len() as u64;
                match stream {
                    Stream::Stdout => return Ok(Some(Event::Piece(bytes))),
                    Stream::Stderr => {
                        let room = MAX_STDERR_BYTES - self.stderr.len();
                        self.stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
                        self.acknowledge(Stream::Stderr);
                    }
                }
            }
            FromInit::StdinTaken { offset, open, .. } => {
                self.feed.taken(offset, open, Instant::now());
            }
            FromInit::Unended { processes, .. } => {
                tracing::error!(sandbox = %self.sandbox.id(), processes, "cannot be ended");
                // Nobody uses it any more; the reaper takes it apart.
                self.sandbox.mark_stopped();
            }
            FromInit::Exited { exit, totals, .. } => {
                self.ended = true;
                if totals != self.received {
                    return Err(HelperError::Incomplete);
                }
                return Ok(Some(Event::End(exit)));
            }
            FromInit::Failed { .. } | FromInit::Unknown { .. } => {
                self.ended = true;
                return Err(HelperError::Refused);
            }
            // Whoever asked for it takes it at his own pace, in pieces that are his: unless it is said
            // that the window is seen, all of it comes in frames.
            FromInit::Share { .. }
            | FromInit::Shared { .. }
            | FromInit::Started { .. }
            | FromInit::Signalled { .. }
            | FromInit::Hello { .. } => {}
        }
        Ok(None)
    }

    fn acknowledge(&self, stream: Stream) {
        let offset = self.received[stream.index()];
        if offset > 0 {
            self.connection.send(ToInit::Ack { exec_id: self.exec_id, stream, offset });
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.send(ToInit::Cancel { exec_id: self.exec_id });
        }
        // Remembered for the next connection, should this one be broken.
        self.sandbox.forget(self.exec_id);
    }
}

type Gate = Pin<Box<dyn Future<Output = Result<Hold, Elapsed>> + Send>>;

/// Lets through who may change files, unless that takes too long.
pub(super) fn gate(take: impl Future<Output = Hold> + Send + 'static) -> Gate {
    Box::pin(timeout(HOLD_PATIENCE, take))
}

async fn pass(gate: &mut Option<Gate>) -> Result<Hold, Elapsed> {
    match gate {
        Some(gate) => gate.await,
        None => std::future::pending().await,
    }
}

async fn next_piece(body: &mut Option<ClientBody>) -> Option<Result<Bytes, CallError>> {
    match body {
        Some(body) => body.next().await,
        None => std::future::pending().await,
    }
}
