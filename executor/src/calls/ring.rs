//! The stream that says that calls wait: one ring per line, an empty line as a sign of life.
//! Gives up on a stream that is silent or makes no sense.

use std::time::Duration;

use protocol::calls::Ring;
use reqwest::{Method, Response};
use tokio::time::{Instant, timeout, timeout_at};

use crate::control::{ControlError, ControlPlane};

/// How long the stream may be silent; the control plane says something every 5 s.
const SILENCE: Duration = Duration::from_secs(15);
/// Longest line, in bytes.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// There is no stream any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum RingsError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("the control plane was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the control plane ended the stream of calls")]
    Ended,
    #[error("the control plane sends calls that this executor does not understand")]
    Malformed,
}

/// See the module.
pub(super) struct Rings {
    response: Response,
    lines: Lines,
    heard_at: Instant,
}

impl Rings {
    pub(super) async fn open(control: &ControlPlane) -> Result<Self, RingsError> {
        let call = control.stream(Method::GET, control.base(), "v1/executors/calls");
        let response = timeout(SILENCE, control.send(call)).await;
        let response = response.map_err(|_| RingsError::Silent)??;
        Ok(Self { response, lines: Lines::default(), heard_at: Instant::now() })
    }

    /// The next ring. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Ring, RingsError> {
        loop {
            while let Some(line) = self.lines.next()? {
                if !line.is_empty() {
                    return serde_json::from_slice(&line).map_err(|_| RingsError::Malformed);
                }
            }
            let chunk = timeout_at(self.heard_at + SILENCE, self.response.chunk()).await;
            match chunk.map_err(|_| RingsError::Silent)? {
                Ok(Some(bytes)) => self.lines.push(&bytes),
                Ok(None) | Err(_) => return Err(RingsError::Ended),
            }
            self.heard_at = Instant::now();
        }
    }
}

/// Bytes that become lines.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    fn next(&mut self) -> Result<Option<Vec<u8>>, RingsError> {
        match self.buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) if end <= MAX_LINE_BYTES => {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                Ok(Some(line))
            }
            None if self.buffer.len() <= MAX_LINE_BYTES => Ok(None),
            _ => Err(RingsError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_whatever_the_pieces() {
        let mut lines = Lines::default();
        lines.push(b"ab");
        assert!(matches!(lines.next(), Ok(None)));
        lines.push(b"c\n\nd\ne");
        for expected in ["abc", "", "d"] {
            assert_eq!(lines.next().expect("fits"), Some(expected.as_bytes().to_vec()));
        }
        assert!(matches!(lines.next(), Ok(None)));
    }

    #[test]
    fn a_line_without_an_end_is_not_collected_for_ever() {
        let mut lines = Lines::default();
        lines.push(&[b'x'; MAX_LINE_BYTES + 1]);
        assert!(lines.next().is_err());
        let mut lines = Lines::default();
        lines.push(&[b'x'; MAX_LINE_BYTES + 1]);
        lines.push(b"\n");
        assert!(lines.next().is_err());
    }
}
