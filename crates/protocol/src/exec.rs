//! What an executor is told to run, and what it reports.

use std::collections::BTreeMap;

use domain::exec::ExecOutcome;
use domain::ids::{ExecId, ExecutorId, SessionId, TenantId};
use domain::limits::{MAX_OUTPUT_BYTES, SandboxLimits};
use domain::sandbox::SandboxRef;
use serde::{Deserialize, Serialize};

use crate::binary::Binary;
use crate::checks::{Checks, Unfit};
use crate::init::TerminalSize;
use crate::sealed::Sealed;

/// One command, exactly as it was decided upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecOrder {
    /// Whose command.
    pub tenant_id: TenantId,
    /// In which session's sandbox.
    pub session_id: SessionId,
    /// Which exec. It is started at most once, ever.
    pub exec_id: ExecId,
    /// What `command` is.
    #[serde(default, skip_serializing_if = "ExecKind::is_shell")]
    pub kind: ExecKind,
    /// Script for `bash -c`, or the text of a tool call, byte for byte.
    pub command: String,
    /// Absolute path inside the sandbox.
    pub cwd: String,
    /// Variables on top of the sandbox's own few.
    pub env: BTreeMap<String, String>,
    /// Standard input; without it, input is closed.
    pub stdin: Option<Binary>,
    /// Standard input stays open for what a client sends while it runs; `stdin` is absent then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_open: bool,
    /// It gets a terminal of this size, and one stream of output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
    /// Milliseconds until SIGTERM.
    pub timeout_ms: u64,
    /// What the session's sandbox may use.
    pub limits: SandboxLimits,
    /// Digest of the image that the sandbox must be made of.
    pub image_digest: String,
    /// Lowest generation that the sandbox may have. One that is older belongs to a time before the
    /// session was moved to this executor; its files are not the session's any more.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub min_generation: u32,
    /// What has to be looked at before it starts. That follows from the command and the decision, so it
    /// is not in the order's digest. The grant has a digest of it: grants stand in the workflow's
    /// history, where no command text stands.
    #[serde(default, skip_serializing_if = "Checks::is_empty")]
    pub checks: Checks,
}

fn first() -> u32 {
    1
}

fn is_first(generation: &u32) -> bool {
    *generation <= 1
}

/// What the text of an exec is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ExecKind {
    /// A script for bash.
    #[default]
    Shell,
    /// A tool call; see [`crate::tools::ToolCall`].
    Tool,
}

impl ExecKind {
    /// Whether it is a script.
    pub fn is_shell(&self) -> bool {
        *self == Self::Shell
    }
}

/// One stream of a finished exec: its beginning, its end and its size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSummary {
    /// Bytes that the command wrote.
    pub bytes_total: u64,
    /// Bytes of those that were kept: less than `bytes_total` when a cap was reached.
    pub bytes_stored: u64,
    /// The first bytes.
    pub head: Binary,
    /// The last bytes, as far as they are not in `head`.
    pub tail: Binary,
    /// SHA-256 of the stored bytes, in hex.
    pub sha256: String,
}

impl StreamSummary {
    /// Whether `head` and `tail` together leave something out.
    pub fn is_truncated(&self) -> bool {
        self.bytes_total > (self.head.0.len() + self.tail.0.len()) as u64
    }

    /// Bytes over the cap, which were counted and dropped.
    pub fn bytes_dropped(&self) -> u64 {
        match self.bytes_stored {
            MAX_OUTPUT_BYTES => self.bytes_total.saturating_sub(MAX_OUTPUT_BYTES),
            _ => 0,
        }
    }

    /// All of the stream, when nothing was left out.
    pub fn whole(&self) -> Option<Vec<u8>> {
        (!self.is_truncated()).then(|| [self.head.0.as_slice(), &self.tail.0].concat())
    }
}

/// The one true result of an exec that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecResult {
    /// How it ended.
    pub outcome: ExecOutcome,
    /// What `exit()` got, when the process left that way.
    pub exit_code: Option<i32>,
    /// The signal that ended it, otherwise.
    pub signal: Option<i32>,
    /// The kernel killed something of it for want of memory.
    pub oom_killed: bool,
    /// When it was started, in milliseconds since the epoch, by the executor's clock.
    pub started_at_ms: u64,
    /// How long it ran, in milliseconds, by a monotonic clock.
    pub duration_ms: u64,
    /// Processes that it left behind, which were ended with it.
    #[serde(default)]
    pub survivors: u32,
    /// Processes of it that nothing could end. Their container was given up.
    #[serde(default)]
    pub unended: u32,
    /// Standard output.
    pub stdout: StreamSummary,
    /// Standard error.
    pub stderr: StreamSummary,
}

/// Input of the activity `tool_exec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRequest {
    /// Which exec.
    pub exec_id: ExecId,
    /// What to do about it.
    pub intent: Intent,
    /// Signed permission; see [`crate::grant::GrantClaims`].
    pub grant: String,
    /// The command, readable by its tenant's executors only.
    pub order: Sealed<ExecOrder>,
    /// The trace that it belongs to (W3C traceparent). Says nothing of what may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What an executor is asked to do about an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Start it, or go on with it, and report its end.
    Run,
    /// Never start it. If it was started, end it and report the truth; if not, see to it that it
    /// never is. Sent when an earlier request was called off without an answer.
    Settle,
}

/// Output of the activity `tool_exec`. Sealed as a whole: an answer that was not made with the
/// tenant's key for this exec is no answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolReply {
    /// What the executor says, sealed in the context [`reply_context`].
    pub report: Sealed<ToolReport>,
}

/// The context that an exec's report is sealed in.
pub fn reply_context(exec_id: ExecId) -> String {
    format!("reply/{exec_id}")
}

/// The context that an exec's order is sealed in.
pub fn order_context(exec_id: ExecId) -> String {
    format!("order/{exec_id}")
}

/// What an executor says about an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolReport {
    /// Who says it.
    pub executor_id: ExecutorId,
    /// The sandbox that it ran in, when there was one.
    pub sandbox: Option<SandboxRef>,
    /// What came of it.
    pub outcome: ToolOutcome,
}

/// What came of a [`ToolRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // there is one of it per exec
pub enum ToolOutcome {
    /// It was started; this is its end.
    Finished(ExecResult),
    /// It was certainly never started.
    NotStarted(NotStarted),
}

/// Why a command was certainly never started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotStarted {
    /// The grant expired on the way: ask for a new one.
    GrantExpired,
    /// The grant does not fit the order, or is not ours.
    GrantRefused,
    /// The order was called off first.
    Cancelled,
    /// The image with that digest is not on the executor's host.
    ImageMissing,
    /// The working directory is not there.
    CwdMissing,
    /// The sandbox could not be made.
    SandboxUnavailable,
    /// The sandbox is there and has nothing left to start it with.
    SandboxExhausted,
    /// The executor's disk is nearly full.
    DiskFull,
    /// The executor holds as much output as it may that the control plane has not taken.
    SpoolFull,
    /// Workspaces are kept in memory there, and this one is larger than the sandbox's memory.
    WorkspaceExceedsMemory,
    /// The sandbox did not pass the checks that its permission rests on.
    #[serde(rename = "repository")]
    Unfit(Unfit),
}

impl NotStarted {
    /// Whether another request for the same exec could never do better.
    pub fn is_final(self) -> bool {
        match self {
            Self::Cancelled
            | Self::ImageMissing
            | Self::CwdMissing
            | Self::WorkspaceExceedsMemory => true,
            // A refusal says something of the request, and not of the exec.
            Self::GrantRefused
            | Self::GrantExpired
            | Self::SandboxUnavailable
            | Self::SandboxExhausted
            | Self::DiskFull
            | Self::SpoolFull
            | Self::Unfit(_) => false,
        }
    }

    /// What a user is told.
    pub fn message(self) -> &'static str {
        match self {
            Self::GrantExpired => "the permission to run it expired before an executor took it",
            Self::GrantRefused => "the executor refused the grant: it does not fit the command",
            Self::Cancelled => "it was cancelled before it started",
            Self::ImageMissing => "the session's image is not on the executor's host",
            Self::CwdMissing => {
                "the working directory does not exist in the sandbox, or cannot be entered"
            }
            Self::SandboxUnavailable => {
                "its executor cannot start a sandbox: Docker does not answer, or refused. \
                 Start it (`systemctl start docker`) or see the executor's log"
            }
            Self::SandboxExhausted => {
                "its sandbox cannot start it now. Where other commands of the session use up its \
                 processes, memory or terminals (limits.pids, limits.memory_bytes), it starts when \
                 one of them has ended, or cancel one; otherwise see that the image has /bin/bash"
            }
            Self::DiskFull => {
                "its executor's disk is nearly full: whoever runs it has to free space under \
                 BULKHEAD_DATA_DIR, or to close sessions that nobody needs"
            }
            Self::SpoolFull => {
                "its executor keeps as much output as it may (BULKHEAD_SPOOL_LIMIT_MIB) that the \
                 control plane has not taken yet; it starts when that is taken"
            }
            Self::WorkspaceExceedsMemory => {
                "its executor keeps workspaces in memory, and the session's \
                 limits.workspace_bytes exceeds its limits.memory_bytes: make a session with a \
                 smaller workspace"
            }
            Self::Unfit(unfit) => unfit.message(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_whole_only_when_nothing_is_missing() {
        let mut stream = StreamSummary {
            bytes_total: 5,
            head: Binary(b"abc".to_vec()),
            tail: Binary(b"de".to_vec()),
            ..StreamSummary::default()
        };
        assert_eq!(stream.whole(), Some(b"abcde".to_vec()));
        stream.bytes_total = 6;
        assert!(stream.is_truncated());
        assert_eq!(stream.whole(), None);
    }
}
