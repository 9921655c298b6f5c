//! A typed client of Bulkhead's HTTP API. Every request is bounded in time.

mod events;
mod files;
mod live;
mod output;
mod problem;
mod types;

use std::sync::Once;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use events::{Event, EventStream};
pub(crate) use files::hex;
pub use files::{Download, Put};
pub use output::{LostOutput, OutputPart, Stream};
pub use problem::{ApiProblem, ClientError};
pub use types::{
    Approval, Decision, Exec, ExecRequest, InputTaken, NewSession, Page, Session, StreamView,
    TerminalSize, Token, Turn,
};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may rest and still be used.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Longer than any answer takes that does not wait for something.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Talks to one control plane as one token.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Client {
    /// A client of the control plane at `url`.
    ///
    /// # Errors
    /// When `url` is none of a control plane, or TLS cannot be set up.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        install_tls();
        let base: Url = url.parse().map_err(|_| ClientError::InvalidUrl { url: url.into() })?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(ClientError::InvalidUrl { url: url.into() });
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            // The server ends one that rests for 15 s; a request must not meet its end.
            .pool_idle_timeout(IDLE_LIMIT)
            .user_agent(concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
            // A token goes to the address that was asked for and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| ClientError::Transport { url: url.into(), source })?;
        Ok(Self { http, base, token: token.map(str::to_owned) })
    }

    /// The same control plane, as another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// Where the control plane is.
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    /// A request with the token on it, for what the other methods do not cover.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(query);
        let request = self.http.request(method, url).timeout(REQUEST_LIMIT);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and turns an error answer into [`ClientError::Problem`].
    ///
    /// # Errors
    /// When there is no answer, or it is no success.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let answer = request.send().await.map_err(|source| self.transport(source))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap_or_default();
        Err(ClientError::Problem(ApiProblem::from_answer(status, &body)))
    }

    /// `GET` with a JSON answer.
    ///
    /// # Errors
    /// As [`Self::send`], and when the answer is not of the type.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// `POST` of JSON with a JSON answer.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// `PUT` of JSON with a JSON answer.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::PUT, path).json(body)).await
    }

    /// `DELETE`, whatever a success answers.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, path)).await.map(drop)
    }

    /// Sends a request and reads its JSON answer; an empty one reads as `null`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let answer = self.send(request).await?;
        let path = answer.url().path().to_owned();
        let bytes = answer.bytes().await.map_err(|source| self.transport(source))?;
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text)
            .map_err(|source| ClientError::UnexpectedAnswer { path, source })
    }

    /// Creates a session.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn create_session(&self, new: &NewSession) -> Result<Session, ClientError> {
        self.post("/v1/sessions", new).await
    }

    /// Starts closing a session.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn close_session(&self, session_id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/v1/sessions/{session_id}")).await
    }

    /// Asks for one command to be run; with `idempotency_key` a repeat finds the first.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn create_exec(
        &self,
        session_id: &str,
        exec: &ExecRequest,
        idempotency_key: Option<&str>,
    ) -> Result<Exec, ClientError> {
        let path = format!("/v1/sessions/{session_id}/execs");
        let wait = Duration::from_millis(exec.wait_ms.unwrap_or(0));
        let request = self.request(Method::POST, &path).timeout(REQUEST_LIMIT + wait).json(exec);
        let request = match idempotency_key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        self.json(request).await
    }

    /// The exec as it is now.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_exec(&self, exec_id: &str) -> Result<Exec, ClientError> {
        self.get(&format!("/v1/execs/{exec_id}")).await
    }

    /// The turn as it is now.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_turn(&self, turn_id: &str) -> Result<Turn, ClientError> {
        self.get(&format!("/v1/turns/{turn_id}")).await
    }

    /// Follows a session's events after the one numbered `after`; 0 is from the beginning.
    pub fn events(&self, session_id: &str, after: u64) -> EventStream {
        EventStream::new(self.clone(), session_id, after)
    }

    fn transport(&self, source: reqwest::Error) -> ClientError {
        // The error would repeat the URL with its query.
        ClientError::Transport { url: self.base.to_string(), source: source.without_url() }
    }
}

/// A text as one segment of a path or one value of a query, whatever is in it.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// reqwest is built without a cryptography provider of its own choosing.
fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only when the program has installed one already, which does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
