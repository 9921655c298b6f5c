//! Ships output to the control plane: live once a command has run for a moment, the rest after its
//! end, by offset, for as long as it takes. A short command's output is in its result; nothing of
//! it comes through here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::ids::ExecId;
use protocol::enrolment::StartedReport;
use protocol::exec::ExecResult;
use protocol::init::Stream;

use crate::backoff::Backoff;
use crate::control::{ControlError, ControlPlane};
use crate::failpoint;
use crate::journal::Journal;
use crate::spool::SpoolView;

/// How long a command runs before its output is shipped live, and how often then.
const PACE: Duration = Duration::from_millis(100);
/// Bytes of one call.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces of a stream that go out at a time while its command runs: 2.5 MB/s, more than anybody
/// follows. What a faster command prints waits for its end, instead of slowing it down.
const LIVE_PIECES: u32 = 1;
const MAX_WAIT: Duration = Duration::from_secs(5);

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
}

/// Shipping is of no more use.
struct GivenUp;

/// See the module.
#[derive(Clone)]
pub(crate) struct Shipper {
    control: Arc<ControlPlane>,
    journal: Journal,
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
    pub(crate) fn left_over(exec_id: ExecId, started_at_ms: u64, views: [SpoolView; 2]) -> Self {
        let phase = Phase { live: true, finished: true, recorded: true, ..Phase::default() };
        let views = views.map(Arc::new);
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
        phase.live |= cut;
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

    fn phase(&self) -> Phase {
        *self.lock()
    }

    /// A panic elsewhere leaves the flags whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shipper {
    /// Ships to this control plane.
    pub(crate) fn new(control: Arc<ControlPlane>, journal: Journal) -> Self {
        Self { control, journal }
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
        if self.ship_all(parcel).await.is_err() {
            tracing::warn!(%exec, "the control plane takes no output of this exec");
            self.wait_recorded(parcel).await;
        }
        if parcel.phase().abandoned {
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

    async fn ship_all(&self, parcel: &Parcel) -> Result<(), GivenUp> {
        let mut offsets = [0; 2];
        let mut reported = false;
        loop {
            // Read before the bytes: what comes later is seen in the next round.
            let over = parcel.phase();
            if over.started && !over.finished && !std::mem::replace(&mut reported, true) {
                self.report_started(parcel).await;
            }
            for stream in Stream::BOTH {
                self.ship_stream(parcel, stream, &mut offsets[stream.index()]).await?;
            }
            if over.recorded || over.abandoned {
                return Ok(());
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

    /// Ships what there is of a stream now; of one whose command runs, a part at a time.
    async fn ship_stream(
        &self,
        parcel: &Parcel,
        stream: Stream,
        offset: &mut u64,
    ) -> Result<(), GivenUp> {
        let view = &parcel.views[stream.index()];
        let mut backoff = Backoff::new(PACE, MAX_WAIT);
        let mut told = false;
        let mut left = LIVE_PIECES;
        while *offset < view.bytes_stored() && !parcel.phase().abandoned {
            if left == 0 && !parcel.phase().recorded {
                break;
            }
            left = left.saturating_sub(1);
            let bytes = view.read(*offset, PIECE_BYTES).await.map_err(|error| {
                tracing::error!(exec = %parcel.exec_id, %error, "spooled output cannot be read");
                GivenUp
            })?;
            match self.control.put_output(parcel.exec_id, stream, *offset, bytes).await {
                Ok(total) if total > *offset => {
                    *offset = total;
                    backoff.reset();
                    continue;
                }
                // It has less than we thought: go back, but not in a busy loop.
                Ok(total) => *offset = total,
                Err(error) if error.is_transient() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(exec = %parcel.exec_id, %error, "output waits");
                    }
                }
                Err(ControlError::Gone(_)) => return Err(GivenUp),
                // A successor ships it: the files and the journal stay as they are.
                Err(ControlError::Fenced) => std::future::pending().await,
                Err(error) => {
                    tracing::error!(exec = %parcel.exec_id, %error, "output refused");
                    return Err(GivenUp);
                }
            }
            tokio::time::sleep(backoff.next()).await;
        }
        Ok(())
    }

    /// A running command's spool must stay until its result is made of it.
    async fn wait_recorded(&self, parcel: &Parcel) {
        while !parcel.phase().recorded && !parcel.phase().abandoned {
            tokio::time::sleep(PACE).await;
        }
    }
}
