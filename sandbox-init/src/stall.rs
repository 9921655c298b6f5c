//! Setting PID 1 free when a command holds what it waits for. Whoever reads or writes a pipe takes
//! its lock, and waits for that without hearing a signal; a command can keep the lock of its own
//! pipes for as long as it likes, by `splice` or `sendfile` from something that brings nothing. PID 1
//! would then do nothing any more, and not even SIGKILL would end it: the container could not be
//! removed.
//!
//! The holder itself hears signals. Stopping it ends its system call, and most of them go on when they
//! are continued: a command that means no harm is slowed down at most.

use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::tree;

/// Where PID 1 tells how it is. Who asks is in its namespace.
const STATUS: &str = "/proc/1/status";
/// It has some 1.5 KiB.
const STATUS_BYTES: usize = 4096;
/// How often to look; more often, when PID 1 may be standing still.
const PAUSE: Duration = Duration::from_millis(100);
const SHORT_PAUSE: Duration = Duration::from_millis(20);
/// How long commands are stopped at most, in steps of [`STEP`], so that PID 1 can go on.
const STEPS: u32 = 50;
const STEP: Duration = Duration::from_millis(1);
/// When PID 1 stands still for so long although commands were stopped, they are killed. A disk that
/// it waits for may be slow, but not as slow as this.
const LIMIT: Duration = Duration::from_secs(8);

/// How PID 1 was when somebody looked last.
pub(crate) struct Stall {
    /// In which sleep it stood still, and since when as far as was seen.
    sleep: Option<(u64, Instant)>,
    /// When to look again.
    due: Instant,
}

impl Stall {
    /// Nobody has looked yet.
    pub(crate) fn new() -> Self {
        Self { sleep: None, due: Instant::now() + PAUSE }
    }

    /// How long until it is time to look.
    pub(crate) fn left(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Whether it is time to look.
    pub(crate) fn is_due(&self) -> bool {
        self.left().is_zero()
    }

    /// When PID 1 stands still since the last look, lets it go on: sees to it that nothing below
    /// `shepherd` holds what it waits for.
    pub(crate) fn look(&mut self, shepherd: Pid) {
        let before = self.sleep.take();
        if let Some(sleep) = stuck_in() {
            let same = before.filter(|(number, _)| *number == sleep);
            match same {
                Some((_, since)) if since.elapsed() > LIMIT => tree::kill_all(shepherd),
                Some(_) => stop_for_a_moment(shepherd, sleep),
                None => {}
            }
            self.sleep = same.or_else(|| Some((sleep, Instant::now())));
        }
        let pause = if self.sleep.is_some() { SHORT_PAUSE } else { PAUSE };
        self.due = Instant::now() + pause;
    }
}

/// Stops everything below `shepherd` until PID 1 has left `sleep`, for a moment at most.
fn stop_for_a_moment(shepherd: Pid, sleep: u64) {
    // What the command has stopped itself, stays so.
    let stopped = tree::stop_running(shepherd);
    for _ in 0..STEPS {
        std::thread::sleep(STEP);
        if stuck_in() != Some(sleep) {
            break;
        }
    }
    tree::let_go_on(&stopped);
}

/// In which sleep PID 1 is, by its number, if it is one that no signal ends.
fn stuck_in() -> Option<u64> {
    let mut bytes = [0; STATUS_BYTES];
    let count = File::open(STATUS).and_then(|mut file| file.read(&mut bytes)).ok()?;
    parse_status(&bytes[..count])
}

/// The number of a sleep is that of all of its sleeps so far.
fn parse_status(status: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(status);
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_ascii_whitespace().next())
    };
    field("State:").filter(|state| *state == "D")?;
    field("voluntary_ctxt_switches:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleep_that_no_signal_ends_counts() {
        let status = |state: &str| {
            format!("Name:\tinit\nState:\t{state}\nPid:\t1\nvoluntary_ctxt_switches:\t42\n")
        };
        assert_eq!(parse_status(status("D (disk sleep)").as_bytes()), Some(42));
        for state in ["S (sleeping)", "R (running)", "T (stopped)", "Z (zombie)", ""] {
            assert_eq!(parse_status(status(state).as_bytes()), None, "{state}");
        }
        assert_eq!(parse_status(b"State:\tD"), None);
        assert_eq!(parse_status(b""), None);
        let own = std::fs::read("/proc/thread-self/status").expect("there is one");
        let own = String::from_utf8_lossy(&own).replace("R (running)", "D (disk sleep)");
        assert!(parse_status(own.as_bytes()).is_some(), "{own}");
    }
}
