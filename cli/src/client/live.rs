//! What can be done to an exec while it runs: wait, input, signals, another window size.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, ClientError, Exec, InputTaken, REQUEST_LIMIT, TerminalSize};

impl Client {
    /// The exec as soon as it is over, or as it is after `wait` (at most ten minutes).
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn wait_for_exec(&self, exec_id: &str, wait: Duration) -> Result<Exec, ClientError> {
        let path = format!("/v1/execs/{exec_id}?wait_ms={}", wait.as_millis());
        self.json(self.request(Method::GET, &path).timeout(REQUEST_LIMIT + wait)).await
    }

    /// Calls off an exec; it may still take a moment to end.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub async fn cancel_exec(&self, exec_id: &str) -> Result<Exec, ClientError> {
        self.post(&format!("/v1/execs/{exec_id}/cancel"), &json!({})).await
    }

    /// Sends input whose first byte is number `offset` of all input: a repeat is taken once.
    ///
    /// # Errors
    /// As [`Client::send`]; a conflict when the exec takes no input or does not run.
    pub async fn send_input(
        &self,
        exec_id: &str,
        offset: u64,
        bytes: &[u8],
        close: bool,
    ) -> Result<InputTaken, ClientError> {
        let path = format!("/v1/execs/{exec_id}/stdin?offset={offset}&close={close}");
        let request = self
            .request(Method::POST, &path)
            .header("Content-Type", "application/octet-stream")
            .body(bytes.to_vec());
        self.json(request).await
    }

    /// Sends a signal, by name or number, to everything that the exec started.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn signal_exec(&self, exec_id: &str, signal: &str) -> Result<(), ClientError> {
        let path = format!("/v1/execs/{exec_id}/signal");
        let _: Value = self.post(&path, &json!({"signal": signal})).await?;
        Ok(())
    }

    /// Gives an exec's terminal another size.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn resize_exec(&self, exec_id: &str, size: TerminalSize) -> Result<(), ClientError> {
        let _: Value = self.post(&format!("/v1/execs/{exec_id}/resize"), &size).await?;
        Ok(())
    }
}
