//! Ships output to the control plane: live once a command has run for a moment, the rest after its
//! end, by offset, for as long as it takes. A short command's output is in its result; nothing of
//! it comes through here. What will never arrive is reported as lost, never dropped in silence.

mod way;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::ids::ExecId;
use domain::limits::MAX_OUTPUT_BYTES;
use protocol::enrolment::StartedReport;
use protocol::exec::{ExecResult, StreamSummary};
use protocol::init::Stream;

use crate::control::ControlPlane;
use crate::failpoint;
use crate::journal::Journal;
use crate::spool::SpoolView;
use way::Way;

/// How long a command runs before its output is shipped live, and how often then.
const PACE: Duration = Duration::from_millis(100);

/// The output of one exec on its way.
pub(crate) struct Parcel {
    exec_id: ExecId,
    started_at_ms: u64,
    views: [Arc<SpoolView>; 2],
    phase: Mutex<Phase>,
}

#[derive(Default, Clone, Copy)]
struct Phase {
    live: bool,
    /// PID 1 says that the command runs, or ran.
    started: bool,
    finished: bool,
    /// The journal knows the end, so that it may be told of the shipping's.
    recorded: bool,
    /// The task that fed it ended without a result; another one will go on.
    abandoned: bool,
    /// Streams of which less is kept than should be, now that they have ended.
    short: [bool; 2],
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Shipper {
    control: Arc<ControlPlane>,
    journal: Journal,
    /// How long output is offered that the control plane does not want.
    patience: Duration,
}

impl Parcel {
    /// Output of an exec that was started; `live` when an earlier life may have shipped some.
    pub(crate) fn new(
        exec_id: ExecId,
        started_at_ms: u64,
        views: [Arc<SpoolView>; 2],
        live: bool,
    ) -> Self {
        let phase = Phase { live, ..Phase::default() };
        Self { exec_id, started_at_ms, views, phase: Mutex::new(phase) }
    }

    /// Output of an exec whose result is in the journal.
    pub(crate) fn left_over(exec_id: ExecId, result: &ExecResult, views: [SpoolView; 2]) -> Self {
        let short = short(result);
        let phase = Phase { live: true, finished: true, recorded: true, short, ..Phase::default() };
        let (started_at_ms, views) = (result.started_at_ms, views.map(Arc::new));
        Self { exec_id, started_at_ms, views, phase: Mutex::new(phase) }
    }

    /// PID 1 has confirmed that it started the command.
    pub(crate) fn mark_started(&self) {
        self.lock().started = true;
    }

    /// The command ended. Tells whether anything has to be shipped.
    pub(crate) fn finish(&self, result: &ExecResult) -> bool {
        let cut = [&result.stdout, &result.stderr]
            .into_iter()
            .any(|stream| stream.bytes_stored > (stream.head.0.len() + stream.tail.0.len()) as u64);
        let mut phase = self.lock();
        phase.finished = true;
        phase.short = short(result);
        phase.live |= cut || phase.short.contains(&true);
        phase.live
    }

    /// The result is in the journal.
    pub(crate) fn mark_recorded(&self) {
        self.lock().recorded = true;
    }

    /// Unless its result is recorded, nobody will finish it: the shipping ends, the files stay.
    pub(crate) fn abandon(&self) {
        let mut phase = self.lock();
        phase.abandoned = !phase.recorded;
    }

    /// Removes the files of an exec that needs no shipping.
    pub(crate) async fn discard(&self) {
        for view in &self.views {
            view.remove().await;
        }
    }

    /// Decides, once, whether this exec's output is shipped while it runs.
    fn go_live(&self) -> bool {
        let mut phase = self.lock();
        phase.live |= !phase.finished;
        phase.live
    }

    /// Whether bytes of a stream are missing that nobody has any more.
    fn is_short(&self, stream: Stream) -> bool {
        self.phase().short[stream.index()]
    }

    fn view(&self, stream: Stream) -> &SpoolView {
        &self.views[stream.index()]
    }

    fn phase(&self) -> Phase {
        *self.lock()
    }

    /// A panic elsewhere leaves the flags whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Streams of which less is kept than was printed, up to the cap: the disk has lost it.
fn short(result: &ExecResult) -> [bool; 2] {
    let kept = |stream: &StreamSummary| stream.bytes_total.min(MAX_OUTPUT_BYTES);
    [&result.stdout, &result.stderr].map(|stream| stream.bytes_stored < kept(stream))
}

impl Shipper {
    /// Ships to this control plane. What it refuses, it is offered for so long.
    pub(crate) fn new(control: Arc<ControlPlane>, journal: Journal, patience: Duration) -> Self {
        Self { control, journal, patience }
    }

    /// Whether the control plane listens to a successor of this executor.
    pub(crate) fn is_fenced(&self) -> bool {
        self.control.fence().is_cancelled()
    }

    /// Ships a parcel in the background.
    pub(crate) fn dispatch(&self, parcel: Arc<Parcel>) {
        let shipper = self.clone();
        tokio::spawn(async move { shipper.ship(&parcel).await });
    }

    async fn ship(&self, parcel: &Parcel) {
        tokio::time::sleep(PACE).await;
        if !parcel.go_live() {
            return;
        }
        let exec = parcel.exec_id;
        let settled = self.ship_all(parcel).await;
        if parcel.phase().abandoned {
            return;
        }
        if !settled {
            // Its files stay: the next start tries again.
            tracing::error!(%exec, "output is lost, and the control plane does not hear of it");
            return;
        }
        failpoint::hit("output_shipped");
        if let Err(error) = self.journal.mark_shipped(exec).await {
            // Its files stay: the next start ships them again, which is harmless.
            tracing::warn!(%exec, %error, "shipped, but the journal does not know");
            return;
        }
        failpoint::hit("shipped_marked");
        parcel.discard().await;
    }

    /// Ships until the end is recorded and nothing is left to do. Tells whether the control plane
    /// has everything, or knows what it will never have.
    async fn ship_all(&self, parcel: &Parcel) -> bool {
        let mut ways = Stream::BOTH.map(Way::new);
        let mut reported = false;
        loop {
            // Read before the bytes: what comes later is seen in the next round.
            let over = parcel.phase();
            if over.started && !over.finished && !std::mem::replace(&mut reported, true) {
                self.report_started(parcel).await;
            }
            for way in &mut ways {
                way.advance(&self.control, parcel, self.patience).await;
            }
            let is_done = over.recorded && ways.iter().all(|way| way.is_done(parcel));
            if is_done || over.abandoned {
                return ways.iter().all(Way::is_settled);
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Best effort: a result without it is just as true.
    async fn report_started(&self, parcel: &Parcel) {
        let report = StartedReport { started_at_ms: parcel.started_at_ms };
        if let Err(error) = self.control.report_started(parcel.exec_id, &report).await {
            tracing::debug!(exec = %parcel.exec_id, %error, "start not reported");
        }
    }
}
