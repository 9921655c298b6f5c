//! The executor's HTTP calls to the control plane. Decides which failures may be tried again;
//! never logs a body or a token.

use std::time::Duration;

use domain::ids::ExecId;
use protocol::enrolment::{EnrolRequest, Enrolment, StartedReport};
use protocol::init::Stream;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// What the call is about is not there any more.
    #[error("the control plane does not know the exec ({0})")]
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
    base: Url,
    token: String,
}

/// Answer to a piece of output.
#[derive(Deserialize)]
struct OutputAnswer {
    total: u64,
}

impl ControlPlane {
    /// A client for the control plane at `base`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(base: Url, token: String) -> Result<Self, ControlError> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(ControlError::Setup)?;
        Ok(Self { http, base, token })
    }

    /// Introduces this executor.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn enrol(&self, request: &EnrolRequest) -> Result<Enrolment, ControlError> {
        let response = send(self.post("v1/executors").json(request)).await?;
        response.json().await.map_err(ControlError::Malformed)
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
        send(self.post(&path).json(report)).await.map(drop)
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
            send(call).await?.json().await.map_err(ControlError::Malformed)?;
        Ok(answer.total)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        let folder = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{folder}/{path}"));
        self.http.request(Method::POST, url).bearer_auth(&self.token)
    }
}

async fn send(call: RequestBuilder) -> Result<Response, ControlError> {
    let response =
        call.send().await.map_err(|error| ControlError::Unreachable(error.without_url()))?;
    match response.status() {
        status if status.is_success() => Ok(response),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Err(ControlError::Unauthorized(status))
        }
        status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => Err(ControlError::Gone(status)),
        status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
            Err(ControlError::Unavailable(status))
        }
        status if status.is_client_error() => Err(ControlError::Rejected(status)),
        status => Err(ControlError::Unavailable(status)),
    }
}
