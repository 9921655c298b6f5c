//! The pieces of work that run at the same time, polled in the order in which they were started.
//!
//! A replay polls in the same order; `FuturesUnordered` would poll in the order of wake-ups.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use domain::agenda::Work;
use futures::future::FusedFuture;

type Job = Pin<Box<dyn Future<Output = ()>>>;

/// Running work, oldest first.
#[derive(Default)]
pub(crate) struct Jobs(Vec<(Work, Job)>);

impl Jobs {
    /// Starts one more.
    pub(crate) fn start(&mut self, work: Work, job: impl Future<Output = ()> + 'static) {
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
    type Output = Work;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        for at in 0..self.jobs.0.len() {
            if self.jobs.0[at].1.as_mut().poll(cx).is_ready() {
                let (work, _) = self.jobs.0.remove(at);
                self.done = true;
                return Poll::Ready(work);
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
