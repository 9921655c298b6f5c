//! Setting PID 1 free when a command holds what it waits for. Whoever reads or writes a pipe takes
//! its lock, and waits for that without hearing a signal; a command can keep the lock of its own
//! pipes for as long as it likes, by `splice` or `sendfile` from something that brings nothing. PID 1
//! would then do nothing any more, and not even SIGKILL would end it: the container could not be
//! removed.
//!
//! The holder itself hears signals. Stopping it ends its system call, which goes on when it is
//! continued: a command that means no harm does not notice.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use nix::unistd::Pid;

use crate::tree;

/// Where PID 1 tells how it is. Who asks is in its namespace.
const STATUS: &str = "/proc/1/status";
/// It has some 1.5 KiB.
const STATUS_BYTES: usize = 4096;
/// How soon to look again; sooner, when PID 1 may be standing still.
const PAUSE: Duration = Duration::from_millis(100);
const SHORT_PAUSE: Duration = Duration::from_millis(20);
/// How long commands are stopped at most, in steps of [`STEP`], so that PID 1 can go on.
const STEPS: u32 = 50;
const STEP: Duration = Duration::from_millis(1);
/// So often stopping may be of no use before the commands are killed.
const MAX_FAILURES: u32 = 10;

/// How PID 1 was the last times that somebody looked.
#[derive(Default)]
pub(crate) struct Stall {
    /// In which sleep it stood still.
    sleep: Option<u64>,
    failures: u32,
}

impl Stall {
    /// How long to wait until the next look.
    pub(crate) fn pause(&self) -> Duration {
        if self.sleep.is_some() { SHORT_PAUSE } else { PAUSE }
    }

    /// To be called now and then while a command runs. When PID 1 stands still since the last time,
    /// lets it go on: sees to it that nothing below `shepherd` holds what it waits for.
    pub(crate) fn look(&mut self, shepherd: Pid) {
        let sleep = stuck_in();
        let lasts = sleep.is_some() && sleep == self.sleep;
        self.sleep = sleep;
        if !lasts {
            self.failures = 0;
        } else if self.failures >= MAX_FAILURES {
            tree::kill_all(shepherd);
        } else if !stop_for_a_moment(shepherd, sleep) {
            self.failures += 1;
        }
    }
}

/// Stops everything below `shepherd` until PID 1 has left `sleep`, for a moment at most. Gives
/// whether it has.
fn stop_for_a_moment(shepherd: Pid, sleep: Option<u64>) -> bool {
    // What the command has stopped itself, stays so.
    let stopped: BTreeSet<i32> = tree::stop_running(shepherd);
    let left = (0..STEPS).any(|_| {
        std::thread::sleep(STEP);
        stuck_in() != sleep
    });
    tree::let_go_on(&stopped);
    left
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
