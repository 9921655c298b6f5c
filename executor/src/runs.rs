//! The execs that this process works on: one task each, owned by the process. Whoever asks for an
//! exec that is being worked on joins it; nobody's leaving ends it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::ids::{ExecId, SessionId};
use protocol::checks::Checks;
use protocol::exec::Intent;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use traces::{Attribute, Kind, Span};

use crate::clock::now_ms;
use crate::interaction::{self, Wish};
use crate::journal::JournalError;
use crate::run::{self, Job, RunEnd, Workshop};

type Active = Arc<Mutex<HashMap<ExecId, Underway>>>;

struct Underway {
    session_id: SessionId,
    order_sha256: String,
    ticket: Ticket,
    line: Line,
    _task: AbortOnDropHandle<()>,
}

/// A way to bring wishes to an exec that is being worked on.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) wishes: mpsc::Sender<Wish>,
    /// Held by whoever brings input: one body after another, never mixed.
    pub(crate) input: Arc<tokio::sync::Mutex<()>>,
}

/// A place to wait for an exec's end.
#[derive(Clone)]
pub(crate) struct Ticket {
    /// What is being done about the exec, by whoever came first.
    pub(crate) intent: Intent,
    end: watch::Receiver<Option<RunEnd>>,
    cancel: CancellationToken,
}

impl Ticket {
    /// Calls the exec off. Its end is still to be waited for.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The end.
    pub(crate) async fn wait(&mut self) -> RunEnd {
        match self.end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(RunEnd::Failed),
            Err(_) => RunEnd::Failed,
        }
    }
}

/// See the module. Dropping it stops the work; commands run on.
pub(crate) struct Runs {
    shop: Arc<Workshop>,
    active: Active,
}

impl Runs {
    /// None yet.
    pub(crate) fn new(shop: Workshop) -> Self {
        Self { shop: Arc::new(shop), active: Active::default() }
    }

    /// Joins the work on `job`'s exec, or begins it. `None` when it runs with another order.
    pub(crate) fn join_or_begin(&self, session_id: SessionId, job: Job) -> Option<Ticket> {
        let mut active = lock(&self.active);
        if let Some(underway) = active.get(&job.exec_id) {
            let same = underway.order_sha256 == job.order_sha256;
            return same.then(|| underway.ticket.clone());
        }
        let (sender, end) = watch::channel(None);
        let ticket = Ticket { intent: job.intent, end, cancel: job.cancel.clone() };
        let (wishes, wished) = interaction::channel();
        let line = Line { wishes, input: Arc::default() };
        let (exec_id, order_sha256) = (job.exec_id, job.order_sha256.clone());
        let departure = Departure { exec_id, active: Arc::clone(&self.active) };
        let shop = Arc::clone(&self.shop);
        // It cannot leave before it is entered: leaving takes the lock that we hold.
        let task = tokio::spawn(async move {
            let departure = departure;
            let mut span = Span::below(job.traceparent.as_deref(), "exec", Kind::Internal);
            span.set(Attribute::session(session_id));
            span.set(Attribute::exec(job.exec_id));
            let end = run::drive(&shop, &job, wished).await;
            describe(&mut span, &end);
            drop(span);
            // First leave, then tell: who asks again must not find this very end once more. The
            // entry owns this task, which therefore never awaits anything again.
            drop(departure);
            sender.send_replace(Some(end));
        });
        let task = AbortOnDropHandle::new(task);
        let ticket_kept = ticket.clone();
        let underway =
            Underway { session_id, order_sha256, ticket: ticket_kept, line, _task: task };
        active.insert(exec_id, underway);
        Some(ticket)
    }

    /// Sees to it that an exec that nobody works on never starts. One that the journal knows stays as
    /// it is.
    pub(crate) async fn call_off_unknown(
        &self,
        session_id: SessionId,
        exec_id: ExecId,
    ) -> Result<(), JournalError> {
        if lock(&self.active).contains_key(&exec_id) {
            // Of another session: not this caller's matter.
            return Ok(());
        }
        self.shop.journal.bury_unknown(exec_id, now_ms()).await?;
        // It may have come meanwhile.
        if let Some(ticket) = self.find_ticket(session_id, exec_id) {
            ticket.cancel();
        }
        Ok(())
    }

    /// Goes on with what an earlier life left: output that is not shipped, and commands that run,
    /// whose ends are to be waited for.
    pub(crate) async fn recover(&self) -> Result<Vec<(ExecId, Ticket)>, JournalError> {
        let unfinished = self.shop.journal.unfinished().await?;
        let unshipped = self.shop.journal.unshipped().await?;
        tracing::info!(unfinished = unfinished.len(), unshipped = unshipped.len(), "journal read");
        let mut running = Vec::with_capacity(unfinished.len());
        for (exec_id, entry) in unfinished {
            // Before anybody is listened to: it ran on, and rests on what it held.
            let sandbox = self.shop.sandboxes.find(entry.session_id, entry.sandbox.id).await;
            let held = sandbox.and_then(|sandbox| sandbox.files.take_back(entry.files));
            let job = Job {
                exec_id,
                intent: Intent::Run,
                order: None,
                order_sha256: entry.order_sha256,
                expired: true,
                checks: Checks::default(),
                held,
                cancel: CancellationToken::new(),
                // Its trace was not written down; its end is reported all the same.
                traceparent: None,
            };
            let ticket = self.join_or_begin(entry.session_id, job);
            running.extend(ticket.map(|ticket| (exec_id, ticket)));
        }
        for (exec_id, _) in unshipped {
            if let Some(result) = self.shop.journal.find_result(exec_id).await? {
                run::ship_left_over(&self.shop, exec_id, &result);
            }
        }
        Ok(running)
    }

    /// The line to an exec of a session, while it is being worked on.
    pub(crate) fn find_line(&self, session_id: SessionId, exec_id: ExecId) -> Option<Line> {
        let active = lock(&self.active);
        let underway = active.get(&exec_id).filter(|underway| underway.session_id == session_id);
        underway.map(|underway| underway.line.clone())
    }

    /// A place to wait for an exec of a session that is being worked on.
    pub(crate) fn find_ticket(&self, session_id: SessionId, exec_id: ExecId) -> Option<Ticket> {
        let active = lock(&self.active);
        let underway = active.get(&exec_id).filter(|underway| underway.session_id == session_id);
        underway.map(|underway| underway.ticket.clone())
    }

    /// What is being worked on in a session.
    pub(crate) fn of_session(&self, session_id: SessionId) -> Vec<Ticket> {
        let active = lock(&self.active);
        let ours = active.values().filter(|underway| underway.session_id == session_id);
        ours.map(|underway| underway.ticket.clone()).collect()
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        // The tasks hold the map that holds them: it has to be emptied by hand.
        let tasks = std::mem::take(&mut *lock(&self.active));
        drop(tasks);
    }
}

fn describe(span: &mut Span, end: &RunEnd) {
    match end {
        RunEnd::Finished { result, .. } => {
            span.set(Attribute::outcome(result.outcome.as_str()));
            if let Some(code) = result.exit_code {
                span.set(Attribute::exit_code(code));
            }
        }
        RunEnd::NotStarted { .. } | RunEnd::Withdrawn => {
            span.set(Attribute::outcome("not_started"));
        }
        RunEnd::Failed => span.fail(),
    }
}

/// Takes an exec off the list when its task ends, however it ends.
struct Departure {
    exec_id: ExecId,
    active: Active,
}

impl Drop for Departure {
    fn drop(&mut self) {
        // Dropped after the lock is free: the entry owns this very task.
        let underway = lock(&self.active).remove(&self.exec_id);
        drop(underway);
    }
}

/// A panic elsewhere leaves the map whole: every change is a single call.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
