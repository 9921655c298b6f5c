//! The replica of the control plane that holds one call: what the call is, the client's body, the
//! answer. Sends the token nowhere but to an address as safe as the control plane's own.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use protocol::calls::{Call, CallReply, Ring};
use reqwest::{Body, Method, Response, Url, header};
use tokio::sync::mpsc;

use super::CallError;
use crate::control::{ControlError, ControlPlane};

/// Longest description of a call, in bytes.
const MAX_CALL_BYTES: usize = 256 * 1024;
/// Pieces of an answer that wait for the network.
const PIECES: usize = 2;

/// A client's body. Its end without an error is the end of all of it.
pub(super) type ClientBody = BoxStream<'static, Result<Bytes, CallError>>;

/// See the module.
pub(super) struct Replica {
    control: Arc<ControlPlane>,
    base: Url,
    path: String,
}

/// The answer broke off: what was sent of it is not all of it.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
struct BrokenOff;

/// A piece of an answer.
enum Part {
    Bytes(Bytes),
    /// That was all. Without it, an answer counts as broken off.
    End,
}

/// Where the bytes of an answer go. Dropped before [`Answer::finish`], it breaks the answer off.
pub(super) struct Answer(mpsc::Sender<Part>);

impl Replica {
    /// The replica that a ring names, unless it is none to trust.
    pub(super) fn of(control: &Arc<ControlPlane>, ring: &Ring) -> Option<Self> {
        let base = trusted(control.base(), &ring.url)?;
        let path = format!("v1/executors/calls/{}", ring.call_id);
        Some(Self { control: Arc::clone(control), base, path })
    }

    /// What is to be done.
    pub(super) async fn get_call(&self) -> Result<Call, CallError> {
        let response = self.control.send(self.request(Method::GET, "")).await?;
        let bytes = read_limited(response).await?;
        serde_json::from_slice(&bytes).map_err(|_| CallError::BodyBroken)
    }

    /// The client's body.
    pub(super) async fn get_body(&self) -> Result<ClientBody, CallError> {
        let response = self.control.send(self.request(Method::GET, "/body")).await?;
        let pieces = response.bytes_stream();
        Ok(pieces.map(|piece| piece.map_err(|_| CallError::BodyBroken)).boxed())
    }

    /// Answers.
    pub(super) async fn reply(&self, reply: &CallReply) -> Result<(), ControlError> {
        self.upload(Body::from(line(reply))).await
    }

    /// Answers with bytes behind the line. The future does the sending.
    pub(super) fn reply_with_bytes(
        &self,
        reply: CallReply,
    ) -> (Answer, impl Future<Output = Result<(), ControlError>>) {
        let (sender, parts) = mpsc::channel(PIECES);
        let head = stream::iter([Ok(Bytes::from(line(&reply)))]);
        let body = Body::wrap_stream(head.chain(until_end(parts)));
        (Answer(sender), self.upload(body))
    }

    async fn upload(&self, body: Body) -> Result<(), ControlError> {
        let kind = "application/octet-stream";
        let call = self.request(Method::POST, "/reply").header(header::CONTENT_TYPE, kind);
        self.control.send(call.body(body)).await.map(drop)
    }

    fn request(&self, method: Method, what: &str) -> reqwest::RequestBuilder {
        self.control.stream(method, &self.base, &format!("{}{what}", self.path))
    }
}

impl Answer {
    /// Sends a piece; waits while the network is slower than the sandbox.
    pub(super) async fn send(&self, bytes: Vec<u8>) -> Result<(), CallError> {
        let sent = self.0.send(Part::Bytes(bytes.into())).await;
        sent.map_err(|_| CallError::AnswerBroken)
    }

    /// That was all.
    pub(super) async fn finish(self) -> Result<(), CallError> {
        self.0.send(Part::End).await.map_err(|_| CallError::AnswerBroken)
    }
}

fn until_end(parts: mpsc::Receiver<Part>) -> impl futures::Stream<Item = Result<Bytes, BrokenOff>> {
    stream::unfold(Some(parts), async |parts| {
        let mut parts = parts?;
        match parts.recv().await {
            Some(Part::Bytes(bytes)) => Some((Ok(bytes), Some(parts))),
            Some(Part::End) => None,
            None => Some((Err(BrokenOff), None)),
        }
    })
}

fn line(reply: &CallReply) -> Vec<u8> {
    // A reply is made of texts and numbers, which always serialize.
    let mut line = serde_json::to_vec(reply).unwrap_or_default();
    line.push(b'\n');
    line
}

async fn read_limited(mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| CallError::BodyBroken)? {
        if bytes.len() + chunk.len() > MAX_CALL_BYTES {
            return Err(CallError::BodyBroken);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// `address` as a URL, if the token may go there: never by a weaker way than to `own`.
fn trusted(own: &Url, address: &str) -> Option<Url> {
    let url: Url = address.parse().ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    (url.scheme() == own.scheme() && url.has_host() && plain).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_no_weaker_way_than_to_the_control_plane() {
        let own: Url = "https://bulkhead.example/".parse().expect("url");
        assert!(trusted(&own, "https://10.0.0.7:8443").is_some());
        for address in [
            "http://10.0.0.7:8443",
            "file:///etc/passwd",
            "https://user:secret@10.0.0.7",
            "https://10.0.0.7/?a=b",
            "10.0.0.7:8443",
            "",
        ] {
            assert!(trusted(&own, address).is_none(), "{address}");
        }
    }

    #[tokio::test]
    async fn an_answer_whose_sender_goes_away_is_no_whole_answer() {
        let (sender, parts) = mpsc::channel(PIECES);
        let answer = Answer(sender);
        answer.send(b"half".to_vec()).await.expect("sends");
        drop(answer);
        let items: Vec<_> = until_end(parts).collect().await;
        assert!(matches!(items.as_slice(), [Ok(_), Err(BrokenOff)]));

        let (sender, parts) = mpsc::channel(PIECES);
        let answer = Answer(sender);
        answer.send(b"all".to_vec()).await.expect("sends");
        answer.finish().await.expect("sends");
        let items: Vec<_> = until_end(parts).collect().await;
        assert!(matches!(items.as_slice(), [Ok(_)]));
    }
}
