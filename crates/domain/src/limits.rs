//! Every limit that a request or a sandbox has, with its unit, its default and its range.

use serde::{Deserialize, Serialize};

/// Longest command text, in bytes. bash gets it as one argument (the kernel's cap is 128 KiB).
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;
/// Largest HTTP request body, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Most environment variables of one exec.
pub const MAX_ENV_ENTRIES: usize = 128;
/// Largest environment of one exec, names and values, in bytes.
pub const MAX_ENV_BYTES: usize = 64 * 1024;
/// Longest working directory, in bytes (`PATH_MAX`).
pub const MAX_CWD_BYTES: usize = 4096;
/// Largest standard input of one exec, in bytes.
pub const MAX_STDIN_BYTES: usize = 256 * 1024;
/// Longest user message of one turn, in bytes.
pub const MAX_TURN_BYTES: usize = 256 * 1024;
/// Longest name of a tenant, token or session, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest reason of a decision, in bytes.
pub const MAX_REASON_BYTES: usize = 2000;
/// How long an exec may run when nobody says otherwise, in milliseconds.
pub const DEFAULT_TIMEOUT_MS: u64 = 120_000;
/// The longest timeout one may ask for, in milliseconds (one day).
pub const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;
/// The longest `wait_ms` of a request, in milliseconds.
pub const MAX_WAIT_MS: u64 = 600_000;
/// How long a command may still clean up after SIGTERM before SIGKILL, in milliseconds.
pub const KILL_GRACE_MS: u64 = 1000;
/// The same when somebody called the command off, in milliseconds: they wait for its end.
pub const CANCEL_GRACE_MS: u64 = 300;
/// Bytes kept of the beginning of a stream in an exec's result, and again of its end.
pub const OUTPUT_HEAD_BYTES: usize = 16 * 1024;
/// Bytes of one stream that are stored per exec; what comes after is counted, flagged, dropped.
pub const MAX_OUTPUT_BYTES: u64 = 64 * 1024 * 1024;
/// How long an approval waits for a human, in milliseconds (seven days).
pub const APPROVAL_TTL_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// How long a grant is valid before its exec has started, in seconds.
pub const GRANT_TTL_S: i64 = 300;
/// Model calls in one turn before it ends with a visible warning.
pub const MAX_TURN_STEPS: u32 = 50;
/// Longest tool output that the model is shown, in bytes.
pub const MAX_MODEL_OUTPUT_BYTES: usize = 32 * 1024;
/// Longest policy text, in bytes.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;
/// Turns and execs of one session that may be unfinished at once.
pub const MAX_OPEN_WORK: i64 = 256;
/// Commands that a model may ask for in one answer.
pub const MAX_CALLS_PER_ANSWER: usize = 16;
/// Rules of a tenant that say which execs are reviewed.
pub const MAX_SAMPLING_RULES: usize = 50;
/// The rarest sample: one exec in so many.
pub const MAX_SAMPLE_ONE_IN: u32 = 1_000_000;
/// The longest that details of audit events may be kept, in days, short of for ever (ten years).
pub const MAX_RETENTION_DAYS: u32 = 3660;
/// The longest time that figures of reviews are worked out over, in days.
pub const MAX_FIGURES_DAYS: i64 = 400;
/// Rows on one page of a list.
pub const MAX_PAGE: i64 = 200;

/// What one sandbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SandboxLimits {
    /// Memory, in bytes; no swap. A workspace that is kept in memory is part of it.
    pub memory_bytes: u64,
    /// Processor time in thousandths of a core.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Size of `/work`, in bytes, of which its file system's tables take some percent.
    pub workspace_bytes: u64,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self { memory_bytes: 512 << 20, cpu_millis: 1000, pids: 128, workspace_bytes: 256 << 20 }
    }
}

/// A limit outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limits.{field} is {value}; it must be between {min} and {max}")]
pub struct LimitOutOfRange {
    field: &'static str,
    value: u64,
    min: u64,
    max: u64,
}

impl SandboxLimits {
    /// Checks that each limit is one that a sandbox can be built with.
    ///
    /// # Errors
    /// Names the first field out of range, with the range.
    pub fn validate(&self) -> Result<(), LimitOutOfRange> {
        let within = |field, value: u64, min: u64, max: u64| {
            let ok = (min..=max).contains(&value);
            if ok { Ok(()) } else { Err(LimitOutOfRange { field, value, min, max }) }
        };
        within("memory_bytes", self.memory_bytes, 64 << 20, 4 << 30)?;
        within("cpu_millis", self.cpu_millis.into(), 50, 4_000)?;
        within("pids", self.pids.into(), 16, 1024)?;
        within("workspace_bytes", self.workspace_bytes, 1 << 20, 16 << 30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(SandboxLimits::default().validate(), Ok(()));
    }

    #[test]
    fn an_impossible_limit_is_named() {
        let limits = SandboxLimits { pids: 0, ..SandboxLimits::default() };
        let message = limits.validate().expect_err("pids 0").to_string();
        assert_eq!(message, "limits.pids is 0; it must be between 16 and 1024");
    }

    #[test]
    fn a_workspace_has_a_range_of_its_own() {
        let sized = |workspace_bytes| {
            SandboxLimits { workspace_bytes, ..SandboxLimits::default() }.validate().is_ok()
        };
        assert!(sized(1 << 20) && sized(16 << 30));
        assert!(!sized((1 << 20) - 1) && !sized((16 << 30) + 1));
    }
}
