//! The pieces of work that run at the same time, polled in the order in which they were started.
//!
//! A replay polls in the same order; `FuturesUnordered` would poll in the order of wake-ups.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use domain::agenda::Work;
use futures::future::FusedFuture;

/// How a piece of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// It is done, one way or the other.
    Finished,
    /// The workflow itself was cancelled or must stop.
    Aborted,
}

type Job = Pin<Box<dyn Future<Output = JobEnd>>>;

/// Running work, oldest first.
#[derive(Default)]
pub(crate) struct Jobs(Vec<(Work, Job)>);

impl Jobs {
    /// Starts one more.
    pub(crate) fn start(&mut self, work: Work, job: impl Future<Output = JobEnd> + 'static) {
        self.0.push((work, Box::pin(job)));
    }

    /// Waits until one is done. Never ready while none runs.
    pub(crate) fn next_done(&mut self) -> NextDone<'_> {
        NextDone { jobs: self, done: false }
    }
}

/// See [`Jobs::next_done`].
pub(crate) struct NextDone<'a> {
    jobs: &'a mut Jobs,
    done: bool,
}

impl Future for NextDone<'_> {
    type Output = (Work, JobEnd);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        for at in 0..self.jobs.0.len() {
            if let Poll::Ready(end) = self.jobs.0[at].1.as_mut().poll(cx) {
                let (work, _) = self.jobs.0.remove(at);
                self.done = true;
                return Poll::Ready((work, end));
            }
        }
        Poll::Pending
    }
}

impl FusedFuture for NextDone<'_> {
    fn is_terminated(&self) -> bool {
        self.done
    }
}
