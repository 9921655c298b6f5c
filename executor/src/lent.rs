//! The pipes of one exec that PID 1 has lent: whether they have something, and taking it out. What a
//! sandbox sends in place of a pipe is refused.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use protocol::init::Stream;
use tokio::net::unix::pipe::Receiver;

use crate::spool::{OutputSink, SpoolError};
use crate::spool_drawing::Pause;

/// See the module.
#[derive(Default)]
pub(crate) struct Lent {
    pipes: [Option<Arc<Receiver>>; 2],
}

impl Lent {
    /// Takes a pipe that came, if one did. Gives whether it is of use.
    pub(crate) fn put(&mut self, stream: Stream, descriptor: Option<OwnedFd>) -> bool {
        // It looks whether it is a pipe.
        let pipe = descriptor.and_then(|descriptor| Receiver::from_owned_fd(descriptor).ok());
        let place = &mut self.pipes[stream.index()];
        *place = pipe.map(Arc::new);
        place.is_some()
    }

    /// Gives up a pipe, if there is one.
    pub(crate) fn drop_pipe(&mut self, stream: Stream) {
        self.pipes[stream.index()] = None;
    }

    /// Waits for a stream whose pipe has something; for ever, without pipes.
    pub(crate) async fn readable(&self) -> Stream {
        let [stdout, stderr] = &self.pipes;
        tokio::select! {
            () = is_readable(stdout.as_ref()) => Stream::Stdout,
            () = is_readable(stderr.as_ref()) => Stream::Stderr,
        }
    }

    /// Moves what a stream's pipe has to `sink`, or a part of it.
    pub(crate) async fn draw(
        &self,
        stream: Stream,
        sink: &mut OutputSink,
    ) -> Result<Pause, SpoolError> {
        match &self.pipes[stream.index()] {
            Some(pipe) => sink.draw(pipe).await,
            None => Ok(Pause::Over),
        }
    }
}

/// An error is found again by whoever reads.
async fn is_readable(pipe: Option<&Arc<Receiver>>) {
    match pipe {
        Some(pipe) => drop(pipe.readable().await),
        None => std::future::pending().await,
    }
}
