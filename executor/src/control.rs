//! The executor's HTTP calls to the control plane. Decides which failures may be tried again, and
//! hears that a successor has taken over; never logs a body or a token.

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ids::{ExecId, ExecutorId};
use protocol::enrolment::{EnrolRequest, Enrolment, LossReport, StartedReport};
use protocol::exec::ToolReply;
use protocol::init::Stream;
use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Says who calls, after enrolment.
const EXECUTOR_HEADER: &str = "bulkhead-executor";
/// Says which start of it calls.
const EPOCH_HEADER: &str = "bulkhead-epoch";

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be set up")]
    Setup(#[source] reqwest::Error),
    /// No answer.
    #[error("the control plane does not answer")]
    Unreachable(#[source] reqwest::Error),
    /// An answer that says: not now.
    #[error("the control plane answers {0}")]
    Unavailable(StatusCode),
    /// The token is not accepted.
    #[error("the control plane refuses this executor's token ({0})")]
    Unauthorized(StatusCode),
    /// A successor of this executor has enrolled: nothing that we say counts any more.
    #[error("another start of this executor has taken over")]
    Fenced,
    /// The session that the call is about was moved to another executor.
    #[error("the session lives elsewhere now")]
    Moved,
    /// What the call is about is not there any more.
    #[error("the control plane does not know what the call is about ({0})")]
    Gone(StatusCode),
    /// The call itself is wrong; trying again is of no use.
    #[error("the control plane rejects the call ({0})")]
    Rejected(StatusCode),
    /// The answer is not what the protocol says.
    #[error("the control plane's answer is malformed")]
    Malformed(#[source] reqwest::Error),
}

impl ControlError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Unavailable(_)
                | Self::Unauthorized(_)
                | Self::Malformed(_)
        )
    }
}

/// See the module.
pub struct ControlPlane {
    http: reqwest::Client,
    /// For bodies that take as long as they take: whoever uses it sets limits of its own.
    streams: reqwest::Client,
    base: Url,
    token: String,
    identity: OnceLock<(ExecutorId, u64)>,
    fence: CancellationToken,
}

/// Answer to a piece of output.
#[derive(Deserialize)]
struct OutputAnswer {
    total: u64,
}

/// The control plane's public keys.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
struct PublicKey {
    crv: String,
    x: String,
    purpose: String,
}

impl ControlPlane {
    /// A client for the control plane at `base`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(base: Url, token: String) -> Result<Self, ControlError> {
        let build = |builder: ClientBuilder| {
            // A redirect could carry the token somewhere else.
            let builder = builder.connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none());
            builder.build().map_err(ControlError::Setup)
        };
        let http = build(reqwest::Client::builder().timeout(TIMEOUT))?;
        let streams = build(reqwest::Client::builder())?;
        let (identity, fence) = (OnceLock::new(), CancellationToken::new());
        Ok(Self { http, streams, base, token, identity, fence })
    }

    /// From now on every call says who makes it.
    pub fn identify(&self, executor_id: ExecutorId, epoch: u64) {
        if self.identity.set((executor_id, epoch)).is_err() {
            tracing::debug!("this client has an identity already");
        }
    }

    /// Cancelled once the control plane listens to a successor of this executor. From then on
    /// nothing may be started or said.
    pub fn fence(&self) -> &CancellationToken {
        &self.fence
    }

    /// The control plane's address.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Introduces this executor.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn enrol(&self, request: &EnrolRequest) -> Result<Enrolment, ControlError> {
        let response = self.send(self.post("v1/executors").json(request)).await?;
        response.json().await.map_err(ControlError::Malformed)
    }

    /// Says that this executor lives.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn report_alive(&self) -> Result<(), ControlError> {
        self.send(self.post("v1/executors/heartbeat").timeout(REPORT_TIMEOUT)).await.map(drop)
    }

    /// The public keys that sign grants, Ed25519.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn get_grant_keys(&self) -> Result<Vec<[u8; 32]>, ControlError> {
        let url = join(&self.base, ".well-known/jwks.json");
        let response = self.send(self.http.request(Method::GET, url)).await?;
        let set: KeySet = response.json().await.map_err(ControlError::Malformed)?;
        let grants = set.keys.iter().filter(|key| key.purpose == "grant" && key.crv == "Ed25519");
        Ok(grants.filter_map(|key| URL_SAFE_NO_PAD.decode(&key.x).ok()?.try_into().ok()).collect())
    }

    /// Tells that a command runs.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn report_started(
        &self,
        exec_id: ExecId,
        report: &StartedReport,
    ) -> Result<(), ControlError> {
        let path = format!("v1/executors/execs/{exec_id}/started");
        self.send(self.post(&path).json(report)).await.map(drop)
    }

    /// Tells how an exec ended, so that nobody has to wait for the workflow to say it.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn report_result(
        &self,
        exec_id: ExecId,
        reply: &ToolReply,
    ) -> Result<(), ControlError> {
        let path = format!("v1/executors/execs/{exec_id}/result");
        self.send(self.post(&path).timeout(REPORT_TIMEOUT).json(reply)).await.map(drop)
    }

    /// Sends the bytes of a stream from `offset` on. Gives how many bytes of the stream the
    /// control plane has now, which may be more or fewer than expected.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn put_output(
        &self,
        exec_id: ExecId,
        stream: Stream,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<u64, ControlError> {
        let path = format!("v1/executors/execs/{exec_id}/output");
        let call = self
            .post(&path)
            .query(&[("stream", stream.as_str()), ("offset", &offset.to_string())])
            .header(reqwest::header::CONTENT_TYPE, "application/octet-stream")
            .body(bytes);
        let answer: OutputAnswer =
            self.send(call).await?.json().await.map_err(ControlError::Malformed)?;
        Ok(answer.total)
    }

    /// Tells that the rest of a stream will never be sent.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn report_loss(
        &self,
        exec_id: ExecId,
        report: &LossReport,
    ) -> Result<(), ControlError> {
        let path = format!("v1/executors/execs/{exec_id}/lost");
        self.send(self.post(&path).json(report)).await.map(drop)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.sign(self.http.request(Method::POST, join(&self.base, path)))
    }

    /// A call to the replica at `base`, without a time limit.
    pub(crate) fn stream(&self, method: Method, base: &Url, path: &str) -> RequestBuilder {
        self.sign(self.streams.request(method, join(base, path)))
    }

    fn sign(&self, call: RequestBuilder) -> RequestBuilder {
        let call = call.bearer_auth(&self.token);
        match self.identity.get() {
            Some((id, epoch)) => {
                call.header(EXECUTOR_HEADER, id.to_string()).header(EPOCH_HEADER, *epoch)
            }
            None => call,
        }
    }

    /// Makes a call. What is not a success is an error.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub(crate) async fn send(&self, call: RequestBuilder) -> Result<Response, ControlError> {
        if self.fence.is_cancelled() {
            return Err(ControlError::Fenced);
        }
        let response =
            call.send().await.map_err(|error| ControlError::Unreachable(error.without_url()))?;
        let error = match response.status() {
            status if status.is_success() => return Ok(response),
            // No call of an executor conflicts with anything but its successor.
            StatusCode::CONFLICT if self.identity.get().is_some() => {
                self.fence.cancel();
                ControlError::Fenced
            }
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                ControlError::Unauthorized(status)
            }
            StatusCode::GONE => ControlError::Moved,
            status @ StatusCode::NOT_FOUND => ControlError::Gone(status),
            status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                ControlError::Unavailable(status)
            }
            status if status.is_server_error() => ControlError::Unavailable(status),
            status => ControlError::Rejected(status),
        };
        Err(error)
    }
}

fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let folder = base.path().trim_end_matches('/');
    url.set_path(&format!("{folder}/{path}"));
    url
}
