//! Byte streams into and out of a session's workspace. Whole files never lie in memory.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use reqwest::{Body, Method, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Client, ClientError};

/// How long one file or archive may take; the server's limit on bytes is 256 MiB.
const TRANSFER_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What the server says of what it took.
#[derive(Debug, Deserialize)]
pub struct Put {
    /// SHA-256 of the bytes it got, in hex.
    pub sha256: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A file or an archive on its way to us.
pub struct Download {
    answer: Response,
}

impl Client {
    /// Sends bytes to `path` and returns the answer with the SHA-256, in hex, of what was sent.
    ///
    /// # Errors
    /// As [`Client::json`]; also when `bytes` break off, which leaves nothing changed there.
    pub async fn upload(
        &self,
        path: &str,
        length: Option<u64>,
        bytes: impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static,
    ) -> Result<(Put, String), ClientError> {
        let digest = Arc::new(Mutex::new(Sha256::new()));
        let writer = Arc::clone(&digest);
        let counted = bytes.inspect(move |piece| {
            if let Ok(piece) = piece {
                writer.lock().unwrap_or_else(PoisonError::into_inner).update(piece);
            }
        });
        let mut request = self
            .request(Method::PUT, path)
            .timeout(TRANSFER_LIMIT)
            .header("Content-Type", "application/octet-stream")
            .body(Body::wrap_stream(counted));
        if let Some(length) = length {
            request = request.header("Content-Length", length);
        }
        let put = self.json(request).await?;
        let digest = digest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((put, hex(&digest.finalize())))
    }

    /// Begins to fetch the bytes at `path`.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn download(&self, path: &str) -> Result<Download, ClientError> {
        let request = self.request(Method::GET, path).timeout(TRANSFER_LIMIT);
        Ok(Download { answer: self.send(request).await? })
    }
}

impl Download {
    /// SHA-256 that the server promises, in hex.
    pub fn sha256(&self) -> Option<&str> {
        self.answer.headers().get("x-content-sha256")?.to_str().ok()
    }

    /// Bytes that the server promises.
    pub fn length(&self) -> Option<u64> {
        self.answer.headers().get("content-length")?.to_str().ok()?.parse().ok()
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When the connection breaks before the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let url = self.answer.url().origin().ascii_serialization();
        let piece = self.answer.chunk().await;
        let piece = piece
            .map_err(|source| ClientError::BrokenDownload { url, source: source.without_url() })?;
        Ok(piece.map(|bytes| bytes.to_vec()))
    }
}

/// Bytes as people compare them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
