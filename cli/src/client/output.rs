//! Downloading what a command wrote, byte for byte, from an offset on.

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::{Client, ClientError};

/// Bytes asked for in one request.
const PART_BYTES: u64 = 1024 * 1024;

/// One of a command's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// The name used in URLs and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A piece of a stream.
#[derive(Debug, Clone)]
pub struct OutputPart {
    /// The bytes from the offset asked for.
    pub bytes: Vec<u8>,
    /// Bytes that the command has written so far.
    pub total: u64,
    /// Whether no more will come.
    pub complete: bool,
    /// Where the output ends before its time, and why: the rest is lost.
    pub lost: Option<LostOutput>,
}

/// The rest of a stream will never come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostOutput {
    /// Bytes before it, which are there.
    pub from: u64,
    /// Why, in one word.
    pub reason: String,
}

impl std::fmt::Display for LostOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = match self.reason.as_str() {
            "unreadable" => "what its executor had kept cannot be read any more",
            "refused" => "the control plane refused it",
            "moved" => "its executor has lost the session",
            other => other,
        };
        write!(f, "the output from byte {} on is lost: {why}", self.from)
    }
}

impl Client {
    /// The bytes of a stream from `offset` on that are there now, up to 1 MiB.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn output_part(
        &self,
        exec_id: &str,
        stream: Stream,
        offset: u64,
    ) -> Result<OutputPart, ClientError> {
        let path = format!(
            "/v1/execs/{exec_id}/output?stream={}&offset={offset}&limit={PART_BYTES}",
            stream.as_str()
        );
        let answer = self.send(self.request(Method::GET, &path)).await?;
        let complete = header(answer.headers(), "x-output-complete") == Some("true");
        let total = header(answer.headers(), "x-output-total").and_then(|text| text.parse().ok());
        let from = header(answer.headers(), "x-output-lost-from").and_then(|it| it.parse().ok());
        let reason = header(answer.headers(), "x-output-lost");
        let lost = from.zip(reason);
        let lost = lost.map(|(from, reason)| LostOutput { from, reason: reason.to_owned() });
        let bytes = answer.bytes().await.map_err(|source| self.transport(source))?.to_vec();
        let total = total.unwrap_or(offset + bytes.len() as u64);
        Ok(OutputPart { bytes, total, complete, lost })
    }

    /// All of a stream that is stored now.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn output(&self, exec_id: &str, stream: Stream) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        loop {
            let part = self.output_part(exec_id, stream, bytes.len() as u64).await?;
            if part.bytes.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(part.bytes);
            if bytes.len() as u64 >= part.total {
                return Ok(bytes);
            }
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
