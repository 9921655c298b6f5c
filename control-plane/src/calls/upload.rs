//! A client's body on its way to an executor, watched: whoever waits for the answer learns that there
//! will be no whole body, and by whose fault.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::oneshot;

use super::waiting::{Bytes, Pieces};

/// Why a body did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// It stopped coming.
    Client,
    /// Nobody reads it any more.
    Executor,
}

/// What becomes of a body.
pub(super) struct Upload(Option<oneshot::Receiver<Broken>>);

impl Upload {
    /// Waits until it broke off; for ever, when it is whole or there is none.
    pub(super) async fn end(self) -> Broken {
        let Some(told) = self.0 else { return std::future::pending().await };
        match told.await {
            Ok(broken) => broken,
            Err(_) => std::future::pending().await,
        }
    }
}

/// The same body, and what becomes of it.
pub(super) fn watched(body: Option<Pieces>) -> (Option<Pieces>, Upload) {
    let Some(pieces) = body else { return (None, Upload(None)) };
    let (tell, told) = oneshot::channel();
    let watched: Pieces = Box::pin(Watched { pieces, tell: Some(tell) });
    (Some(watched), Upload(Some(told)))
}

struct Watched {
    pieces: Pieces,
    /// Until it came to an end.
    tell: Option<oneshot::Sender<Broken>>,
}

impl Stream for Watched {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.pieces.as_mut().poll_next(context);
        match &next {
            Poll::Ready(None) => self.tell = None,
            Poll::Ready(Some(Err(_))) => {
                if let Some(tell) = self.tell.take() {
                    let _ = tell.send(Broken::Client);
                }
            }
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        next
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(Broken::Executor);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _, stream};

    use super::*;

    fn body(items: Vec<Result<Bytes, std::io::Error>>) -> (Pieces, Upload) {
        let (pieces, upload) = watched(Some(stream::iter(items).boxed()));
        (pieces.expect("there is one"), upload)
    }

    #[tokio::test]
    async fn who_broke_it_off_is_told() {
        let piece = || Ok(Bytes::from_static(b"piece"));
        let (pieces, upload) = body(vec![piece(), piece()]);
        assert_eq!(pieces.count().await, 2);
        assert!(upload.end().now_or_never().is_none(), "it is whole");

        let (mut pieces, upload) = body(vec![piece(), Err(std::io::ErrorKind::TimedOut.into())]);
        assert!(pieces.next().await.is_some_and(|piece| piece.is_ok()));
        assert!(pieces.next().await.is_some_and(|piece| piece.is_err()));
        drop(pieces);
        assert_eq!(upload.end().await, Broken::Client);

        let (mut pieces, upload) = body(vec![piece(), piece()]);
        assert!(pieces.next().await.is_some());
        drop(pieces);
        assert_eq!(upload.end().await, Broken::Executor);

        let (none, upload) = watched(None);
        assert!(none.is_none() && upload.end().now_or_never().is_none());
    }
}
