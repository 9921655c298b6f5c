//! Keeps the started programs running: restarts one that died, with growing pauses, and stops all
//! of them in reverse order.
//!
//! Lives on the program's one thread: the children's parent-death signal is bound to it.

use std::collections::BTreeMap;
use std::process::{Child, ExitStatus};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::time::sleep;

use super::DevError;
use super::log::DevLog;
use super::service::{Service, Stage};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A program that ran this long begins again with the shortest pause.
const STEADY: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// How long a program may take to be ready before it is said what it is doing.
const TELL_AFTER: Duration = Duration::from_secs(5);
/// Deaths of one program after which a start is given up.
const START_DEATHS: u32 = 5;

/// All programs that were started.
pub(super) struct Supervisor {
    log: Rc<DevLog>,
    kept: Vec<Kept>,
}

struct Kept {
    service: Service,
    state: State,
    pause: Duration,
    deaths: u32,
}

enum State {
    Running { child: Child, since: Instant },
    Waiting { until: Instant },
}

impl Supervisor {
    /// Nothing runs yet.
    pub(super) fn new(log: Rc<DevLog>) -> Self {
        Self { log, kept: Vec::new() }
    }

    /// Starts a program and keeps it running from now on.
    pub(super) fn start(&mut self, service: Service) -> Result<(), DevError> {
        let child = service.spawn()?;
        let state = State::Running { child, since: Instant::now() };
        self.kept.push(Kept { service, state, pause: FIRST_PAUSE, deaths: 0 });
        Ok(())
    }

    /// Process ids by name, of those that run.
    pub(super) fn pids(&self) -> BTreeMap<String, u32> {
        let pid = |kept: &Kept| match &kept.state {
            State::Running { child, .. } => Some((kept.service.name.clone(), child.id())),
            State::Waiting { .. } => None,
        };
        self.kept.iter().filter_map(pid).collect()
    }

    /// Notices deaths and restarts what is due. Returns whether a process id changed.
    pub(super) fn tend(&mut self) -> bool {
        let mut changed = false;
        for kept in &mut self.kept {
            changed |= kept.tend(&self.log);
        }
        changed
    }

    /// When the next restart is due, if one is.
    pub(super) fn next_restart(&self) -> Option<Instant> {
        let due = |kept: &Kept| match kept.state {
            State::Waiting { until } => Some(until),
            State::Running { .. } => None,
        };
        self.kept.iter().filter_map(due).min()
    }

    /// Waits until `is_ready` says so, tending all programs meanwhile.
    ///
    /// # Errors
    /// When it takes longer than `limit`, or the program named keeps dying.
    pub(super) async fn wait_until(
        &mut self,
        name: &str,
        limit: Duration,
        mut is_ready: impl AsyncFnMut() -> bool,
    ) -> Result<(), DevError> {
        let begin = Instant::now();
        let deadline = begin + limit;
        let mut told = false;
        loop {
            self.tend();
            if is_ready().await {
                return Ok(());
            }
            let Some(kept) = self.kept.iter().find(|kept| kept.service.name == name) else {
                return Err(DevError::Garbled { what: format!("the service name {name}") });
            };
            if kept.deaths >= START_DEATHS {
                return Err(kept.service.not_ready(format!("it ended {} times", kept.deaths)));
            }
            if begin.elapsed() > TELL_AFTER && !std::mem::replace(&mut told, true) {
                self.log.say(format_args!("waiting for {name}: {}", kept.service.last_words()));
            }
            if Instant::now() >= deadline {
                let why = format!("waited for {} s", limit.as_secs());
                return Err(kept.service.not_ready(why));
            }
            sleep(POLL).await;
        }
    }

    /// Stops everything, in reverse order, each with its own time.
    pub(super) async fn stop(&mut self) {
        for stage in Stage::STOPPING {
            let mut stopping: Vec<Kept> =
                self.kept.extract_if(.., |kept| kept.service.stage == stage).collect();
            for kept in &stopping {
                kept.signal(kept.service.stop_signal);
            }
            for kept in &mut stopping {
                kept.finish(&self.log).await;
            }
        }
    }
}

impl Kept {
    fn tend(&mut self, log: &DevLog) -> bool {
        match &mut self.state {
            State::Running { child, since } => match child.try_wait() {
                Ok(Some(status)) => {
                    let lived = since.elapsed();
                    self.bury(status, lived, log);
                    true
                }
                Ok(None) | Err(_) => false,
            },
            State::Waiting { until } if Instant::now() < *until => false,
            State::Waiting { .. } => self.restart(log),
        }
    }

    fn bury(&mut self, status: ExitStatus, lived: Duration, log: &DevLog) {
        if lived >= STEADY {
            self.pause = FIRST_PAUSE;
        }
        self.deaths += 1;
        let pause_ms = self.pause.as_millis();
        log.say(format_args!(
            "{} ended ({status}); starting it again in {pause_ms} ms",
            self.service.name
        ));
        self.wait();
    }

    fn wait(&mut self) {
        self.state = State::Waiting { until: Instant::now() + self.pause };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn restart(&mut self, log: &DevLog) -> bool {
        match self.service.spawn() {
            Ok(child) => {
                log.say(format_args!("{} started again (pid {})", self.service.name, child.id()));
                self.state = State::Running { child, since: Instant::now() };
                true
            }
            Err(problem) => {
                log.say(format_args!("{}: {problem}", self.service.name));
                self.wait();
                false
            }
        }
    }

    fn pid(&self) -> Option<Pid> {
        match &self.state {
            State::Running { child, .. } => i32::try_from(child.id()).ok().map(Pid::from_raw),
            State::Waiting { .. } => None,
        }
    }

    /// Never fails in a way that matters: one that is gone needs no signal.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, signal);
        }
    }

    async fn finish(&mut self, log: &DevLog) {
        let Some(pid) = self.pid() else { return };
        let State::Running { child, .. } = &mut self.state else { return };
        let deadline = Instant::now() + self.service.stop_limit;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let limit_s = self.service.stop_limit.as_secs();
                log.say(format_args!("{} did not stop in {limit_s} s: killed", self.service.name));
                let _ = killpg(pid, Signal::SIGKILL);
                let _ = child.wait();
                return;
            }
            sleep(POLL).await;
        }
        // What it may have left behind in its process group.
        let _ = killpg(pid, Signal::SIGKILL);
    }
}

/// The last resort, for an error or a panic on the way: nothing that we started outlives us.
impl Drop for Supervisor {
    fn drop(&mut self) {
        for kept in &mut self.kept {
            if let (Some(pid), State::Running { child, .. }) = (kept.pid(), &mut kept.state) {
                let _ = killpg(pid, Signal::SIGKILL);
                let _ = child.wait();
            }
        }
    }
}
