//! What the journal says of an exec, and of a session.

use domain::ids::SessionId;
use domain::sandbox::SandboxRef;
use protocol::exec::NotStarted;
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::hold::FileUse;
use crate::workspace::WorkspaceId;

/// How far an exec is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its start was sent, or is about to be: it may run. Whether it does is PID 1's to know, which
    /// outlives this program.
    // As earlier versions call it, which can go on with this journal if they have to.
    #[serde(rename = "starting", alias = "accepted")]
    Accepted,
    /// Its result is in the journal.
    Finished {
        /// When, in milliseconds since the epoch.
        finished_at_ms: u64,
        /// Whether the control plane has its output, or needs no more of it.
        shipped: bool,
        /// Whether the control plane has its result, or wants it no more. Of earlier versions it
        /// is not known; their results went with the workflow.
        #[serde(default = "yes")]
        reported: bool,
    },
}

impl Stage {
    /// Finished now, and not reported yet.
    pub(crate) fn finished_now(shipped: bool) -> Self {
        Self::Finished { finished_at_ms: now_ms(), shipped, reported: false }
    }
}

/// One exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Digest of its order.
    pub order_sha256: String,
    /// Its session.
    pub session_id: SessionId,
    /// Where it was started.
    pub sandbox: SandboxRef,
    /// Which run of PID 1 it was started by.
    pub boot_id: u64,
    /// When, in milliseconds since the epoch.
    pub started_at_ms: u64,
    /// How long it may run, in milliseconds.
    pub timeout_ms: u64,
    /// Its standard input stays open for what clients send.
    #[serde(default)]
    pub stdin_open: bool,
    /// It has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// The sandbox's count of out-of-memory kills before it.
    pub oom_kills_before: Option<u64>,
    /// What it has to do with the files of its workspace.
    #[serde(default)]
    pub files: FileUse,
    /// How far it is.
    pub stage: Stage,
}

/// The sandbox of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its newest incarnation. A session may be closed without ever having had one.
    pub sandbox: Option<SandboxRef>,
    /// Its workspace, where that outlives the sandbox's container.
    #[serde(default)]
    pub workspace: Option<WorkspaceId>,
    /// When the session was closed, in milliseconds since the epoch. It gets no sandbox any more.
    pub closed_at_ms: Option<u64>,
}

fn yes() -> bool {
    true
}

/// What the journal knows of an exec.
pub struct Past {
    /// Its entry, if it was accepted.
    pub entry: Option<Entry>,
    /// Why it may never start, if it may not.
    pub burial: Option<NotStarted>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_of_earlier_versions_are_understood() {
        let read = |text| serde_json::from_str::<Stage>(text).expect("a stage");
        assert_eq!(read(r#""starting""#), Stage::Accepted);
        assert_eq!(serde_json::to_string(&Stage::Accepted).expect("JSON"), r#""starting""#);
        let finished = Stage::Finished { finished_at_ms: 7, shipped: false, reported: true };
        assert_eq!(read(r#"{"finished":{"finished_at_ms":7,"shipped":false}}"#), finished);
    }
}
