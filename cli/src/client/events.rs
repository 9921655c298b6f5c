//! A session's events as they happen. A connection that drops is resumed after the last event
//! seen, so the caller gets each event once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Client, ClientError};

/// A silent connection is taken for dead after this; the server sends comments more often.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// The whole connection; reqwest's own limit would otherwise end it after a request's time.
const CONNECTION_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest line that is believed to be an event.
const MAX_LINE_BYTES: usize = 4 << 20;

/// One event of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number within the session.
    pub seq: u64,
    /// What happened, such as `exec.finished`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it happened to.
    #[serde(default)]
    pub data: Map<String, Value>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Event {
    /// A text out of the event's data; empty when it has none of that name.
    pub fn text(&self, name: &str) -> &str {
        self.data.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

type Bytes = Pin<Box<dyn Stream<Item = reqwest::Result<Vec<u8>>> + Send>>;

/// Yields a session's events. Ask with [`EventStream::next`]; it may be cancelled and asked again.
pub struct EventStream {
    client: Client,
    path: String,
    last_seq: u64,
    connection: Option<Bytes>,
    parser: Parser,
    pause: Duration,
}

impl EventStream {
    pub(super) fn new(client: Client, session_id: &str, after: u64) -> Self {
        Self {
            client,
            path: format!("/v1/sessions/{session_id}/events"),
            last_seq: after,
            connection: None,
            parser: Parser::default(),
            pause: Duration::ZERO,
        }
    }

    /// The next event. Waits for it as long as it takes, over lost connections.
    ///
    /// # Errors
    /// When the control plane refuses the stream: the token or the session is wrong.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            while let Some(event) = self.parser.next() {
                if event.seq > self.last_seq {
                    self.last_seq = event.seq;
                    return Ok(event);
                }
            }
            match &mut self.connection {
                None => self.connect().await?,
                Some(bytes) => match tokio::time::timeout(SILENCE_LIMIT, bytes.next()).await {
                    Ok(Some(Ok(part))) if self.parser.push(&part) => self.pause = Duration::ZERO,
                    _ => self.disconnect(),
                },
            }
        }
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.parser = Parser::default();
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        tokio::time::sleep(self.pause).await;
        let request = self
            .client
            .request(Method::GET, &self.path)
            .timeout(CONNECTION_LIMIT)
            .header("Accept", "text/event-stream")
            .header("Last-Event-ID", self.last_seq);
        match self.client.send(request).await {
            Ok(answer) => {
                let bytes = answer.bytes_stream().map(|part| part.map(|bytes| bytes.to_vec()));
                self.connection = Some(Box::pin(bytes));
                Ok(())
            }
            Err(problem) if problem.is_transient() => {
                self.disconnect();
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }
}

/// Splits the byte stream into events, as the HTML standard says, as far as Bulkhead uses it: the
/// event is wholly in its `data` lines.
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    ready: VecDeque<Event>,
}

impl Parser {
    /// Takes the next bytes. Returns false when they are no event stream.
    fn push(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.take_line(line.strip_suffix(b"\r").unwrap_or(&line));
            } else {
                self.line.push(byte);
            }
        }
        self.line.len() + self.data.len() <= MAX_LINE_BYTES
    }

    fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    fn take_line(&mut self, line: &[u8]) {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            // What is not an event of ours is from a newer server, and skipped.
            self.ready.extend(serde_json::from_slice::<Event>(&data).ok());
        } else if let Some(rest) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend(rest.strip_prefix(b" ").unwrap_or(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = concat!(
        ": hello\n\n",
        "id: 7\nevent: exec.running\ndata: {\"seq\":7,\"type\":\"exec.running\",\"at\":\"x\",\"data\":{\"exec_id\":\"exe_1\"}}\n\n",
        "id: 8\r\nevent: message\r\ndata: {\"seq\":8,\"type\":\"message\",\r\ndata: \"data\":{\"text\":\"für\"}}\r\n\r\n",
        "data: not json\n\n",
    );

    fn kinds(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<(u64, String)> {
        let mut parser = Parser::default();
        for chunk in chunks {
            assert!(parser.push(&chunk));
        }
        std::iter::from_fn(|| parser.next()).map(|event| (event.seq, event.kind)).collect()
    }

    #[test]
    fn events_come_out_however_the_bytes_are_cut() {
        let expected = vec![(7, "exec.running".to_owned()), (8, "message".to_owned())];
        for size in [1, 2, 3, 7, 1000] {
            let chunks = TWO.as_bytes().chunks(size).map(<[u8]>::to_vec);
            assert_eq!(kinds(chunks), expected, "cut every {size} bytes");
        }
    }

    #[test]
    fn an_unfinished_event_stays_inside() {
        let cut = TWO.as_bytes()[..60].to_vec();
        assert_eq!(kinds(std::iter::once(cut)), vec![]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        assert!(!Parser::default().push(&vec![b'x'; MAX_LINE_BYTES + 1]));
    }
}
