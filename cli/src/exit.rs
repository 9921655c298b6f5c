//! Exit codes: what a script sees of how an exec ended.

use domain::exec::ExecState;

use crate::client::Exec;

/// Bulkhead itself failed, or the exec ended in a way that says nothing about the command.
pub const OWN_ERROR: u8 = 125;
/// The command line was not understood.
pub const USAGE: u8 = 2;
const TIMED_OUT: u8 = 124;
const DENIED: u8 = 126;
const KILLED: u8 = 137;
const SIGNAL_BASE: i32 = 128;

/// The exit code that stands for a finished exec.
pub fn code_of(exec: &Exec) -> u8 {
    match exec.state {
        ExecState::Exited => exited(exec.exit_code, exec.signal),
        ExecState::TimedOut => TIMED_OUT,
        ExecState::Denied => DENIED,
        ExecState::Killed => KILLED,
        ExecState::Cancelled
        | ExecState::Lost
        | ExecState::PendingApproval
        | ExecState::Queued
        | ExecState::Running => OWN_ERROR,
    }
}

/// A shell's convention: the code, or 128 and the signal.
fn exited(code: Option<i32>, signal: Option<i32>) -> u8 {
    let code = signal.map(|signal| SIGNAL_BASE + signal).or(code);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(OWN_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(state: &str, exit_code: Option<i32>, signal: Option<i32>) -> Exec {
        let json = serde_json::json!({
            "exec_id": "exe_0", "session_id": "ses_0", "state": state, "command": "true",
            "exit_code": exit_code, "signal": signal,
        });
        serde_json::from_value(json).expect("an exec")
    }

    #[test]
    fn each_end_has_its_code() {
        for (state, exit_code, signal, expected) in [
            ("exited", Some(0), None, 0),
            ("exited", Some(7), None, 7),
            ("exited", None, Some(15), 143),
            ("exited", None, None, 125),
            ("timed_out", None, Some(9), 124),
            ("denied", None, None, 126),
            ("killed", None, Some(9), 137),
            ("cancelled", None, None, 125),
            ("lost", None, None, 125),
            ("running", None, None, 125),
        ] {
            assert_eq!(code_of(&exec(state, exit_code, signal)), expected, "{state}");
        }
    }
}
