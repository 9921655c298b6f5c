//! Bodies that must not be, and bodies that do not come.
//!
//! An operation without a body takes none; an empty JSON object, which many clients send with any
//! `POST`, counts as none. A body is not compressed. It has to keep coming, and to end in time. After
//! one in chunks the connection ends: whoever stands between may have gone by a length that was sent
//! beside them, and taken what follows for a part of it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{ApiError, rules};

/// Longest text that may stand for no body, in bytes.
const MAX_NOTHING: usize = 64;
/// Longest pause within a body.
const PAUSE: Duration = Duration::from_secs(15);
/// How long a body may take that is read as a whole.
const WHOLE: Duration = Duration::from_secs(30);
/// How long a body may take that is passed on as it comes.
const STREAM: Duration = Duration::from_secs(10 * 60);

/// See the module.
pub async fn guard(request: Request, next: Next) -> Response {
    let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = pass_on(request, next).await;
    if is_chunked {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn pass_on(request: Request, next: Next) -> Response {
    let rule = rules::of(request.method(), request.extensions());
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let is_stream = rule.is_some_and(|rule| rule.is_stream);
    if !is_plain(&parts.headers) {
        let detail = "a body is taken as it is: send it without Content-Encoding, not compressed";
        let (status, code) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding");
        return ApiError::new(status, code, detail).into_response();
    }
    let body = Body::new(Timely::new(body, if is_stream { STREAM } else { WHOLE }));
    if rule.is_none_or(|rule| rule.has_body) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    if is_nothing(body).await {
        let mut request = Request::from_parts(parts, Body::empty());
        request.headers_mut().remove(header::CONTENT_LENGTH);
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        return next.run(request).await;
    }
    let detail = "this operation takes no body; leave it out, or send {}";
    ApiError::new(StatusCode::BAD_REQUEST, "unexpected_body", detail).into_response()
}

/// Whether nothing has to be undone to read the body.
fn is_plain(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.all(|encoding| {
        encoding.is_empty() || encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    })
}

async fn is_nothing(body: Body) -> bool {
    let Ok(bytes) = to_bytes(body, MAX_NOTHING).await else { return false };
    let text = bytes.trim_ascii();
    let object = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}"));
    text.is_empty() || object.is_some_and(|within| within.trim_ascii().is_empty())
}

/// A body that breaks off when it pauses or takes too long.
struct Timely {
    body: Body,
    end: Instant,
    clock: Pin<Box<Sleep>>,
}

impl Timely {
    fn new(body: Body, limit: Duration) -> Self {
        let now = Instant::now();
        let end = now + limit;
        Self { body, end, clock: Box::pin(tokio::time::sleep_until(end.min(now + PAUSE))) }
    }
}

impl HttpBody for Timely {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let next = self.end.min(Instant::now() + PAUSE);
            self.clock.as_mut().reset(next);
            return Poll::Ready(frame);
        }
        match self.clock.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Poll::Ready(Some(Err(axum::Error::new(late))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};

    use super::*;

    #[tokio::test]
    async fn nothing_is_nothing_or_an_empty_object() {
        for text in ["", "{}", " {\n} \n", "  "] {
            assert!(is_nothing(Body::from(text)).await, "{text:?}");
        }
        let long = format!("{{{}}}", " ".repeat(MAX_NOTHING));
        for text in ["x", "{", "}", "{}{}", "[]", "null", "{\"a\":1}", "0", &long] {
            assert!(!is_nothing(Body::from(text.to_owned())).await, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_pauses_or_takes_too_long_breaks_off() {
        let limit = Duration::from_millis(60);
        let never = stream::pending::<Result<Bytes, axum::Error>>();
        let body = Body::new(Timely::new(Body::from_stream(never), limit));
        assert!(to_bytes(body, 10).await.is_err());
        // Every piece is in time, the whole is not.
        let drips = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, axum::Error>(Bytes::from_static(b"x")), ()))
        });
        let body = Body::new(Timely::new(Body::from_stream(drips.boxed()), limit));
        assert!(to_bytes(body, 1 << 20).await.is_err());
        let body = Body::new(Timely::new(Body::from("all of it"), limit));
        assert_eq!(to_bytes(body, 100).await.expect("in time"), "all of it");
    }
}
