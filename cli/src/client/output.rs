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
        let bytes = answer.bytes().await.map_err(|source| self.transport(source))?.to_vec();
        let total = total.unwrap_or(offset + bytes.len() as u64);
        Ok(OutputPart { bytes, total, complete })
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
