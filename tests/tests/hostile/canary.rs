//! Another tenant, who notices nothing: a command a second, beside everything that this process
//! runs.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tests::{Stack, TestSession};
use tokio::sync::MutexGuard;

/// How long the neighbour's `echo ok` may take, and what nearly all of them may take.
const WORST: Duration = Duration::from_secs(5);
const USUAL: Duration = Duration::from_secs(2);
const PACE: Duration = Duration::from_secs(1);
/// Commands that show how long one takes when nothing else happens.
const BASELINE: usize = 5;

/// One command of the neighbour's.
#[derive(Clone)]
struct Sample {
    begun: Instant,
    took: Duration,
    /// What was wrong with it.
    fault: Option<String>,
}

/// Everything that the neighbour ran.
struct Neighbour {
    samples: Mutex<Vec<Sample>>,
    baseline: Duration,
}

/// The neighbour, watched beside one test.
pub struct Canary {
    neighbour: &'static Neighbour,
    begun: Instant,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// Who hurts a host as much as it can does so alone.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Canary {
    /// Watches beside what may run beside other tests.
    pub async fn start() -> Self {
        let neighbour = tokio::task::spawn_blocking(neighbour).await.expect("a neighbour");
        Self { neighbour, begun: Instant::now(), _turn: None }
    }

    /// Watches beside an attack, one at a time.
    pub async fn start_alone() -> Self {
        let turn = TURN.lock().await;
        Self { _turn: Some(turn), ..Self::start().await }
    }

    /// Asserts that the neighbour was served all the time, and as soon as ever.
    pub async fn assert_unharmed(self, attack: &str) {
        let ended = Instant::now();
        // One that was begun within the time has to come to its end.
        let samples = loop {
            let samples = self.neighbour.samples.lock().expect("lock").clone();
            if samples.last().is_some_and(|last| last.begun >= ended) {
                break samples;
            }
            assert!(ended.elapsed() < 2 * WORST, "{attack}: the neighbour's commands stopped");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let beside = |it: &&Sample| it.begun + it.took >= self.begun && it.begun <= ended;
        let mut times = Vec::new();
        for sample in samples.iter().filter(beside) {
            assert!(sample.fault.is_none(), "{attack}: the neighbour got {:?}", sample.fault);
            times.push(sample.took);
        }
        times.sort();
        let Some(worst) = times.last() else { return };
        let p95 = times[(times.len() * 95).div_ceil(100) - 1];
        assert!(*worst < WORST, "{attack}: {worst:?} of {}", times.len());
        let bound = USUAL.max(2 * self.neighbour.baseline);
        // A few samples have no usual time but their worst.
        assert!(times.len() < 5 || p95 < bound, "{attack}: {p95:?} of {}", times.len());
    }
}

/// The one neighbour, who begins with the first test and ends with the process.
fn neighbour() -> &'static Neighbour {
    static NEIGHBOUR: OnceLock<Neighbour> = OnceLock::new();
    static LIVES: OnceLock<()> = OnceLock::new();
    let neighbour = NEIGHBOUR.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let baseline = runtime.expect("a runtime").block_on(async {
            let session = TestSession::create(Stack::shared(), "globex").await;
            // Its sandbox is made before anything is measured.
            run(&session).await;
            let mut times = Vec::new();
            for _ in 0..BASELINE {
                times.push(run(&session).await.took);
            }
            times.into_iter().max().unwrap_or_default()
        });
        Neighbour { samples: Mutex::default(), baseline }
    });
    LIVES.get_or_init(|| {
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(live(neighbour));
        });
    });
    neighbour
}

async fn live(neighbour: &'static Neighbour) {
    let session = TestSession::create(Stack::shared(), "globex").await;
    run(&session).await;
    loop {
        let sample = run(&session).await;
        let rest = PACE.saturating_sub(sample.took);
        neighbour.samples.lock().expect("lock").push(sample);
        tokio::time::sleep(rest).await;
    }
}

async fn run(session: &TestSession) -> Sample {
    let begun = Instant::now();
    let body = serde_json::json!({ "command": "echo ok", "wait_ms": 30_000 });
    let answer = session.agent.post(&format!("/v1/sessions/{}/execs", session.id), body).await;
    let fine = answer.status == 201
        && answer.body["stdout"]["head"] == "ok\n"
        && answer.body["exit_code"] == 0;
    let fault = (!fine).then(|| format!("{} {}", answer.status, answer.text));
    Sample { begun, took: begun.elapsed(), fault }
}
