//! Another tenant, who notices nothing.

use std::time::{Duration, Instant};

use tests::{Stack, TestSession};
use tokio::sync::{Mutex, MutexGuard, oneshot};
use tokio::task::JoinHandle;

/// How long the neighbour's `echo ok` may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs `echo ok` as another tenant for as long as it lives. One at a time in this process, so
/// that a neighbour is measured beside one attack and not beside all.
pub struct Canary {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Vec<Duration>>,
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::const_new(());

impl Canary {
    pub async fn start() -> Self {
        let turn = TURN.lock().await;
        let session = TestSession::create(Stack::shared(), "globex").await;
        // Its sandbox is made before anything is measured.
        session.run("echo ok").await;
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut times = Vec::new();
            while stopped.try_recv().is_err() {
                let begun = Instant::now();
                let exec = session.run("echo ok").await;
                assert_eq!(exec["stdout"]["head"], "ok\n", "{exec}");
                times.push(begun.elapsed());
            }
            times
        });
        Self { stop, task, _turn: turn }
    }

    /// Ends it; asserts that it was served all the time.
    pub async fn assert_unharmed(self, attack: &str) {
        let _ = self.stop.send(());
        let times = self.task.await.expect("the neighbour's commands ran");
        let worst = times.iter().max().copied().unwrap_or_default();
        assert!(!times.is_empty() && worst < PATIENCE, "{attack}: {worst:?} of {}", times.len());
    }
}
