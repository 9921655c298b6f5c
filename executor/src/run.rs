//! One exec from journal to result: decides between starting, attaching and answering from the
//! journal, talks to PID 1, and writes the end down. Never starts what may have been started, nor
//! what was settled before.

use std::convert::Infallible;
use std::sync::Arc;

use domain::ids::ExecId;
use domain::sandbox::SandboxRef;
use protocol::checks::Checks;
use protocol::exec::{ExecOrder, ExecResult, Intent, NotStarted};
use protocol::init::{StartFailure, Stream};
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::dialogue::{Dialogue, Ending};
use crate::failpoint;
use crate::hold::{FileUse, Hold};
use crate::interaction::Wishes;
use crate::journal::{Entry, Journal, JournalError, Stage};
use crate::result::{finished, is_oom_killed, lost};
use crate::sandbox::Sandbox;
use crate::sandboxes::{SandboxError, Sandboxes, Wanted};
use crate::ship::{Parcel, Shipper};
use crate::spool::{OutputSink, SpoolError, SpoolView};
use crate::spool_folder::SpoolFolder;
use crate::start::order_frame;

/// What the tasks of all execs work with.
pub(crate) struct Workshop {
    pub(crate) journal: Journal,
    pub(crate) sandboxes: Arc<Sandboxes>,
    pub(crate) shipper: Shipper,
    pub(crate) spool: SpoolFolder,
    pub(crate) uid: u32,
}

/// One exec to see through.
pub(crate) struct Job {
    pub(crate) exec_id: ExecId,
    pub(crate) intent: Intent,
    /// What to run. Absent after a restart, until an activity brings it again.
    pub(crate) order: Option<ExecOrder>,
    pub(crate) order_sha256: String,
    /// The grant is over: it may go on, it may not start.
    pub(crate) expired: bool,
    /// What has to be looked at before it starts.
    pub(crate) checks: Checks,
    /// What it has kept of its workspace's files since an earlier life.
    pub(crate) held: Option<Hold>,
    pub(crate) cancel: CancellationToken,
    /// The trace that it belongs to.
    pub(crate) traceparent: Option<String>,
}

/// How the work on an exec ended.
#[derive(Clone)]
pub(crate) enum RunEnd {
    /// It was started, and this came of it.
    Finished { result: Arc<ExecResult>, sandbox: SandboxRef },
    /// It was certainly never started.
    NotStarted { why: NotStarted, sandbox: Option<SandboxRef> },
    /// It was certainly never started; whoever has the order may ask again.
    Withdrawn,
    /// Nothing can be said now, because something of ours failed; ask again.
    Failed,
}

/// Something of ours failed on the way.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    #[error("the output could not be kept")]
    Spool(#[from] SpoolError),
    #[error("the journal has no result for a finished exec")]
    NoResult,
}

/// Sees an exec through to its end. While it runs, `wishes` are brought to it.
pub(crate) async fn drive(shop: &Workshop, job: &Job, wishes: Wishes) -> RunEnd {
    match try_drive(shop, job, wishes).await {
        Ok(end) => end,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(exec = %job.exec_id, error, "no result yet");
            RunEnd::Failed
        }
    }
}

async fn try_drive(shop: &Workshop, job: &Job, wishes: Wishes) -> Result<RunEnd, RunError> {
    let past = shop.journal.recall(job.exec_id).await?;
    let Some(entry) = past.entry else {
        return begin_or_bury(shop, job, past.burial, wishes).await;
    };
    if entry.order_sha256 != job.order_sha256 {
        tracing::warn!(exec = %job.exec_id, "refused: the journal knows another order");
        return Ok(not_started(NotStarted::GrantRefused, None));
    }
    match entry.stage {
        Stage::Accepted => resume(shop, job, entry, wishes).await,
        Stage::Finished { .. } => {
            let result = shop.journal.find_result(job.exec_id).await?.ok_or(RunError::NoResult)?;
            Ok(RunEnd::Finished { result: Arc::new(result), sandbox: entry.sandbox })
        }
    }
}

/// The exec was never started: starts it, or sees to it that it never is.
async fn begin_or_bury(
    shop: &Workshop,
    job: &Job,
    burial: Option<NotStarted>,
    wishes: Wishes,
) -> Result<RunEnd, RunError> {
    if let Some(why) = burial {
        return Ok(not_started(why, None));
    }
    match (job.intent, &job.order) {
        (Intent::Settle, _) => bury(shop, job, NotStarted::Cancelled, None).await,
        (Intent::Run, Some(order)) => begin(shop, job, order, wishes).await,
        (Intent::Run, None) => Ok(RunEnd::Withdrawn),
    }
}

/// Takes a start back that certainly never happened: for ever, when `why` is final.
async fn withdraw(shop: &Workshop, job: &Job, why: Option<NotStarted>) -> Result<(), JournalError> {
    failpoint::hit("before_withdraw");
    match why.filter(|why| why.is_final()) {
        Some(why) => shop.journal.bury(job.exec_id, why, now_ms()).await?,
        None => shop.journal.withdraw(job.exec_id).await?,
    }
    failpoint::hit("after_withdraw");
    Ok(())
}

/// Says for ever that it was not started. Whoever brings the same order later hears the same.
async fn bury(
    shop: &Workshop,
    job: &Job,
    why: NotStarted,
    sandbox: Option<SandboxRef>,
) -> Result<RunEnd, RunError> {
    failpoint::hit("before_bury");
    shop.journal.bury(job.exec_id, why, now_ms()).await?;
    failpoint::hit("after_bury");
    Ok(not_started(why, sandbox))
}

async fn begin(
    shop: &Workshop,
    job: &Job,
    order: &ExecOrder,
    wishes: Wishes,
) -> Result<RunEnd, RunError> {
    if job.expired {
        return Ok(not_started(NotStarted::GrantExpired, None));
    }
    if !shop.spool.has_room().map_err(SpoolError::Io)? {
        return Ok(not_started(NotStarted::SpoolFull, None));
    }
    if !job.checks.is_empty()
        && let Some(unfit) = shop.journal.find_unfit(job.exec_id).await?
    {
        return Ok(not_started(NotStarted::Unfit(unfit), None));
    }
    let wanted = Wanted {
        session_id: order.session_id,
        limits: order.limits,
        image: order.image_digest.clone(),
        min_generation: order.min_generation,
    };
    let made = tokio::select! {
        biased;
        () = job.cancel.cancelled() => return bury(shop, job, NotStarted::Cancelled, None).await,
        made = shop.sandboxes.get_or_create(wanted) => made,
    };
    let (sandbox, connection) = match made {
        Ok(made) => made,
        Err(SandboxError::Journal(error)) => return Err(error.into()),
        Err(error) => {
            let why = explain(job.exec_id, &error);
            // Taken for its end where it is on record, so it has to be one.
            let end = why.is_final();
            return if end { bury(shop, job, why, None).await } else { Ok(not_started(why, None)) };
        }
    };
    let files = FileUse::of(order, &job.checks.git_folders);
    let _hold = tokio::select! {
        biased;
        () = job.cancel.cancelled() => return bury(shop, job, NotStarted::Cancelled, None).await,
        hold = sandbox.files.take(files) => hold,
    };
    let entry = Entry {
        order_sha256: job.order_sha256.clone(),
        session_id: order.session_id,
        sandbox: sandbox.reference(),
        boot_id: connection.boot_id,
        started_at_ms: now_ms(),
        timeout_ms: order.timeout_ms,
        stdin_open: order.stdin_open,
        terminal: order.terminal.is_some(),
        oom_kills_before: sandbox.oom_kills(),
        files,
        stage: Stage::Accepted,
    };
    let sinks = Stream::BOTH.map(|stream| OutputSink::new(shop.spool.file(job.exec_id, stream)));
    let ear = sandbox.listen(job.exec_id);
    if shop.shipper.is_fenced() {
        return Ok(RunEnd::Failed);
    }
    failpoint::hit("before_record_start");
    // From here on the journal must not guess: PID 1 has to be asked.
    shop.journal.record_start(job.exec_id, &entry).await?;
    failpoint::hit("after_record_start");
    let start = order_frame(order, &job.checks, shop.uid);
    let dialogue = Dialogue::new(job, &entry, Some(start), ear, sinks, wishes);
    see_through(shop, job, entry, &sandbox, dialogue).await
}

async fn resume(
    shop: &Workshop,
    job: &Job,
    entry: Entry,
    wishes: Wishes,
) -> Result<RunEnd, RunError> {
    let sinks = open_sinks(shop, job.exec_id).await?;
    let Some(sandbox) = shop.sandboxes.find(entry.session_id, entry.sandbox.id).await else {
        let parcel = parcel(job.exec_id, &entry, &sinks, true);
        let _abandon = AbandonOnDrop(Arc::clone(&parcel));
        shop.shipper.dispatch(Arc::clone(&parcel));
        let result = lost(&entry, &sinks);
        return record(shop, job.exec_id, entry, result, &parcel).await;
    };
    let ear = sandbox.listen(job.exec_id);
    let order = job.order.as_ref().filter(|_| job.intent == Intent::Run);
    let start = order.map(|order| order_frame(order, &job.checks, shop.uid));
    let dialogue = Dialogue::resume(job, &entry, start, ear, sinks, wishes);
    // After a failure of ours it runs without its hold: whoever changes files now is waited for.
    let files = if job.held.is_some() { FileUse::Free } else { entry.files };
    let keep = async {
        let _hold = sandbox.files.take(files).await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        never = keep => match never {},
        end = see_through(shop, job, entry, &sandbox, dialogue) => end,
    }
}

async fn see_through(
    shop: &Workshop,
    job: &Job,
    entry: Entry,
    sandbox: &Sandbox,
    mut dialogue: Dialogue<'_>,
) -> Result<RunEnd, RunError> {
    let parcel = parcel(job.exec_id, &entry, dialogue.sinks(), !dialogue.is_fresh());
    // Whatever happens here, the shipping must not wait for a result that nobody makes.
    let _abandon = AbandonOnDrop(Arc::clone(&parcel));
    shop.shipper.dispatch(Arc::clone(&parcel));
    let ending = match dialogue.run(&parcel).await? {
        Ending::Untrue => {
            tracing::error!(exec = %job.exec_id, sandbox = %sandbox.id(), "killing the sandbox");
            // Nothing of it may run on once it is told.
            shop.sandboxes.give_up(sandbox).await;
            Ending::Untrue
        }
        ending => ending,
    };
    let result = match ending {
        Ending::Exit { exit, totals, unended } => {
            if unended > 0 {
                // Nobody waits for Docker, which may be a while about it.
                let (exec, at) = (job.exec_id, sandbox.id());
                tracing::error!(%exec, sandbox = %at, unended, "something of it cannot be ended");
                tokio::spawn(shop.sandboxes.give_up(sandbox));
            }
            let kills = entry.oom_kills_before.zip(sandbox.oom_kills());
            let grown = kills.is_some_and(|(before, after)| after > before);
            let oom_killed = is_oom_killed(exit, grown);
            finished(&entry, dialogue.sinks(), exit, totals, oom_killed, unended)
        }
        Ending::Vanished => {
            // Docker does not say when: after its start, if not before.
            let fresh = entry.oom_kills_before == Some(0);
            let oom_killed = fresh && sandbox.has_run_out_of_memory();
            ExecResult { oom_killed, ..lost(&entry, dialogue.sinks()) }
        }
        // At least its own first process: the container was given up for it.
        Ending::Untrue => ExecResult { unended: 1, ..lost(&entry, dialogue.sinks()) },
        Ending::Refused(StartFailure::Unfit(unfit)) => {
            // Whoever brings such a grant later hears the same: by then, somebody may be asked.
            shop.journal.record_unfit(job.exec_id, unfit, now_ms()).await?;
            return Ok(not_started(NotStarted::Unfit(unfit), Some(entry.sandbox)));
        }
        Ending::Refused(why) => {
            let why = match why {
                StartFailure::Cwd => NotStarted::CwdMissing,
                StartFailure::Unfit(unfit) => NotStarted::Unfit(unfit),
                StartFailure::Resources => NotStarted::SandboxExhausted,
                StartFailure::Malformed => NotStarted::SandboxUnavailable,
            };
            withdraw(shop, job, Some(why)).await?;
            return Ok(not_started(why, Some(entry.sandbox)));
        }
        Ending::NeverStarted => {
            if job.intent == Intent::Settle || job.cancel.is_cancelled() {
                return bury(shop, job, NotStarted::Cancelled, Some(entry.sandbox)).await;
            }
            withdraw(shop, job, None).await?;
            return Ok(RunEnd::Withdrawn);
        }
    };
    let end = record(shop, job.exec_id, entry, result, &parcel).await?;
    // Only now: until the journal has the result, PID 1 is the one who knows it.
    sandbox.forget(job.exec_id);
    Ok(end)
}

async fn record(
    shop: &Workshop,
    exec_id: ExecId,
    mut entry: Entry,
    result: ExecResult,
    parcel: &Arc<Parcel>,
) -> Result<RunEnd, RunError> {
    let ships = parcel.finish(&result);
    entry.stage = Stage::finished_now(!ships);
    shop.journal.record_result(exec_id, &entry, &result).await?;
    failpoint::hit("result_recorded");
    parcel.mark_recorded();
    if !ships {
        let parcel = Arc::clone(parcel);
        tokio::spawn(async move { parcel.discard().await });
    }
    tracing::info!(exec = %exec_id, outcome = result.outcome.as_str(),
        duration_ms = result.duration_ms, "finished");
    Ok(RunEnd::Finished { result: Arc::new(result), sandbox: entry.sandbox })
}

struct AbandonOnDrop(Arc<Parcel>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

async fn open_sinks(shop: &Workshop, exec_id: ExecId) -> Result<[OutputSink; 2], SpoolError> {
    let path = |stream| shop.spool.file(exec_id, stream);
    let [stdout, stderr] = Stream::BOTH.map(path);
    Ok([OutputSink::open(stdout).await?, OutputSink::open(stderr).await?])
}

fn parcel(exec_id: ExecId, entry: &Entry, sinks: &[OutputSink; 2], live: bool) -> Arc<Parcel> {
    let views = [sinks[0].view(), sinks[1].view()];
    Arc::new(Parcel::new(exec_id, entry.started_at_ms, views, live))
}

/// Ships what an earlier life left.
pub(crate) fn ship_left_over(shop: &Workshop, exec_id: ExecId, end: &ExecResult) {
    let view = |stream, summary| SpoolView::of_finished(shop.spool.file(exec_id, stream), summary);
    let views = [view(Stream::Stdout, &end.stdout), view(Stream::Stderr, &end.stderr)];
    shop.shipper.dispatch(Arc::new(Parcel::left_over(exec_id, end, views)));
}

fn not_started(why: NotStarted, sandbox: Option<SandboxRef>) -> RunEnd {
    RunEnd::NotStarted { why, sandbox }
}

fn explain(exec_id: ExecId, error: &SandboxError) -> NotStarted {
    tracing::warn!(exec = %exec_id, error = error as &dyn std::error::Error, "no sandbox for it");
    match error {
        // For ever: "unavailable" would be tried again.
        SandboxError::Closed => NotStarted::Cancelled,
        _ => error.not_started(),
    }
}
