//! How an exec ended, in the words of the protocol.

use domain::exec::ExecOutcome;
use protocol::exec::ExecResult;
use protocol::init::Exit;

use crate::clock::now_ms;
use crate::journal::Entry;
use crate::spool::OutputSink;

/// Whether the kernel ended it for want of memory, given that its sandbox's count of such kills has
/// grown during its life. The count is the sandbox's: of two commands that overlap and both end by
/// SIGKILL, one may be blamed for the other's.
pub(crate) fn is_oom_killed(exit: Exit, grown: bool) -> bool {
    // 137 is how a shell reports a child of its own that SIGKILL ended.
    grown && (exit.signal == Some(9) || exit.code == Some(137))
}

/// What `waitpid` told, in the words of the protocol.
fn outcome(exit: Exit, oom_killed: bool) -> ExecOutcome {
    match exit {
        Exit { cancelled: true, .. } => ExecOutcome::Cancelled,
        Exit { timed_out: true, .. } => ExecOutcome::TimedOut,
        _ if oom_killed => ExecOutcome::Killed,
        _ => ExecOutcome::Exited,
    }
}

/// The result of an exec that ended in the sight of PID 1.
pub(crate) fn finished(
    entry: &Entry,
    sinks: &[OutputSink; 2],
    exit: Exit,
    totals: [u64; 2],
    oom_killed: bool,
    unended: u32,
) -> ExecResult {
    ExecResult {
        outcome: outcome(exit, oom_killed),
        exit_code: exit.code,
        signal: exit.signal,
        oom_killed,
        started_at_ms: entry.started_at_ms,
        duration_ms: exit.duration_ms,
        survivors: exit.survivors,
        unended,
        stdout: sinks[0].summarize(Some(totals[0])),
        stderr: sinks[1].summarize(Some(totals[1])),
    }
}

/// The result of an exec whose end nobody saw.
pub(crate) fn lost(entry: &Entry, sinks: &[OutputSink; 2]) -> ExecResult {
    ExecResult {
        outcome: ExecOutcome::Lost,
        exit_code: None,
        signal: None,
        oom_killed: false,
        started_at_ms: entry.started_at_ms,
        duration_ms: now_ms().saturating_sub(entry.started_at_ms),
        survivors: 0,
        unended: 0,
        stdout: sinks[0].summarize(None),
        stderr: sinks[1].summarize(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: Option<i32>, signal: Option<i32>) -> Exit {
        Exit { code, signal, timed_out: false, cancelled: false, duration_ms: 1, survivors: 0 }
    }

    #[test]
    fn only_the_kernels_kill_for_want_of_memory_counts_as_killed() {
        let killed = |code, signal, grown| is_oom_killed(exit(code, signal), grown);
        assert!(killed(None, Some(9), true));
        assert!(killed(Some(137), None, true));
        assert!(!killed(Some(0), None, true), "something else of the sandbox was killed");
        assert!(!killed(None, Some(15), true));
        assert!(!killed(None, Some(9), false));
        assert_eq!(outcome(exit(None, Some(9)), true), ExecOutcome::Killed);
        assert_eq!(outcome(exit(None, Some(9)), false), ExecOutcome::Exited);
    }

    #[test]
    fn a_command_that_was_ended_says_why() {
        let timed_out = Exit { timed_out: true, ..exit(None, Some(15)) };
        assert_eq!(outcome(timed_out, false), ExecOutcome::TimedOut);
        let cancelled = Exit { cancelled: true, ..exit(Some(0), None) };
        assert_eq!(outcome(cancelled, true), ExecOutcome::Cancelled);
    }
}
