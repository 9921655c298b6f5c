//! One streamed call of `POST {base}/responses`.
//!
//! Items count when they are done, the answer when it is completed (shapes: the Responses API as
//! Codex uses it). A stream that breaks off gives nothing, so that a retry doubles nothing.

use std::time::Duration;

use domain::ids::SessionId;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Frames;
use super::frames::FrameTooLarge;
use super::tools;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the stream may be silent.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest error text of the provider that is passed on, in characters.
const MAX_ERROR_CHARS: usize = 500;
/// Most items in one answer.
const MAX_ITEMS: usize = 256;

const INSTRUCTIONS: &str = "You are a coding agent in a sandbox: an isolated Linux container \
without network. Use the tool `shell` to run commands; the workspace is /work. Some commands need \
a human's approval, which may take time or be denied; if one is denied, respect the reason. \
Report truthfully what commands printed.";

/// What the model is asked.
pub struct Prompt<'a> {
    /// The session's own model, if it has one.
    pub model: Option<&'a str>,
    /// The conversation so far.
    pub items: &'a [Value],
    /// Groups calls for the provider's cache.
    pub session_id: SessionId,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The provider does not answer, is overloaded, or broke off: try again.
    #[error("{0}")]
    Unavailable(String),
    /// The provider refused; trying again would not help. In its own words.
    #[error("the provider refused the request")]
    Refused(String),
}

impl From<reqwest::Error> for ModelError {
    fn from(error: reqwest::Error) -> Self {
        Self::Unavailable(error.without_url().to_string())
    }
}

impl From<FrameTooLarge> for ModelError {
    fn from(error: FrameTooLarge) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// See the module.
pub struct ModelClient {
    http: reqwest::Client,
    url: String,
    api_key: String,
    default_model: String,
}

impl ModelClient {
    /// A client for the provider at `base_url`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(base_url: &str, api_key: &str, default_model: &str) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .build()?;
        Ok(Self {
            http,
            url: format!("{}/responses", base_url.trim_end_matches('/')),
            api_key: api_key.into(),
            default_model: default_model.into(),
        })
    }

    /// Asks once. Gives the answer's items and the tokens that it took; `pieces` gets its text as it comes, as long as
    /// somebody listens there.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub async fn stream(
        &self,
        prompt: &Prompt<'_>,
        pieces: mpsc::Sender<String>,
    ) -> Result<(Vec<Value>, i64), ModelError> {
        let response = self
            .http
            .post(&self.url)
            .bearer_auth(&self.api_key)
            .header("accept", "text/event-stream")
            .json(&self.body(prompt))
            .send()
            .await?;
        let status = response.status();
        if !status.is_success() {
            let body = response.text().await.unwrap_or_default();
            let text = provider_text(&body);
            let transient = status.is_server_error() || matches!(status.as_u16(), 408 | 409);
            let overloaded = status.as_u16() == 429 && !body.contains("insufficient_quota");
            return Err(if transient || overloaded {
                ModelError::Unavailable(format!("provider answered {status}"))
            } else {
                ModelError::Refused(format!("the model provider answered {status}: {text}"))
            });
        }
        let mut frames = Frames::default();
        let mut items = Vec::new();
        let mut body = response.bytes_stream();
        while let Some(bytes) = body.next().await {
            for data in frames.push(&bytes?)? {
                let Ok(event) = serde_json::from_str::<Value>(&data) else { continue };
                match event["type"].as_str().unwrap_or_default() {
                    "response.output_text.delta" => {
                        let piece = event["delta"].as_str().unwrap_or_default();
                        let _ = pieces.send(piece.to_owned()).await;
                    }
                    "response.output_item.done" if items.len() < MAX_ITEMS => {
                        items.push(event["item"].clone());
                    }
                    "response.completed" => {
                        // Counted by the provider; one that does not is taken at its word.
                        let tokens = event["response"]["usage"]["total_tokens"].as_i64();
                        return Ok((items, tokens.unwrap_or(0).max(0)));
                    }
                    "response.failed" | "response.incomplete" => return Err(failure(&event)),
                    _ => {}
                }
            }
        }
        Err(ModelError::Unavailable("the stream ended before the answer was complete".into()))
    }

    fn body(&self, prompt: &Prompt<'_>) -> Value {
        let mut input = vec![json!({
            "type": "message", "role": "developer",
            "content": [{ "type": "input_text", "text": INSTRUCTIONS }],
        })];
        input.extend_from_slice(prompt.items);
        json!({
            "model": prompt.model.unwrap_or(&self.default_model),
            "stream": true,
            "store": false,
            "input": input,
            "tools": tools::definitions(),
            "tool_choice": "auto",
            "parallel_tool_calls": true,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": prompt.session_id,
        })
    }
}

fn failure(event: &Value) -> ModelError {
    let error = &event["response"]["error"];
    let code = error["code"].as_str().unwrap_or_default();
    let text = error["message"]
        .as_str()
        .or_else(|| event["response"]["incomplete_details"]["reason"].as_str())
        .unwrap_or("no reason given");
    let text: String = text.chars().take(MAX_ERROR_CHARS).collect();
    match code {
        "server_error" | "rate_limit_exceeded" => {
            ModelError::Unavailable(format!("provider failed with {code}"))
        }
        _ => ModelError::Refused(format!("the model did not answer: {text}")),
    }
}

fn provider_text(body: &str) -> String {
    let text = serde_json::from_str::<Value>(body)
        .ok()
        .and_then(|value| value["error"]["message"].as_str().map(ToOwned::to_owned))
        .unwrap_or_else(|| body.to_owned());
    text.chars().take(MAX_ERROR_CHARS).collect()
}
