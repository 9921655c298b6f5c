//! Calls from the control plane to an executor while a client waits: files, input, signals, and
//! commands that policy allowed.
//!
//! The executor holds `GET /v1/executors/calls` open and gets one [`Ring`] per line. It then fetches
//! the call from the address that it names (the replica that the client is connected to), does
//! it, and sends a [`CallReply`] back, followed by bytes where the call gives any. Nothing of it is
//! kept: when either side dies, the client gets an error and may ask again.

use domain::ids::{CallId, ExecId, SessionId, TokenId};
use domain::limits::SandboxLimits;
use serde::{Deserialize, Serialize};

use crate::exec::ToolRequest;
use crate::files::{FileError, FileReply, FileRequest};
use crate::init::TerminalSize;

/// A call waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// Which.
    pub call_id: CallId,
    /// Address of the replica that holds it.
    pub url: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// In which session's sandbox.
    pub session_id: SessionId,
    /// What the sandbox may use, should it have to be made.
    pub limits: SandboxLimits,
    /// What it is made of.
    pub image_digest: String,
    /// Lowest generation that it may have.
    pub min_generation: u32,
    /// On whose behalf, where somebody waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenId>,
    /// What to do.
    pub what: CallKind,
    /// Milliseconds until the client stops waiting.
    pub timeout_ms: u64,
}

/// What a call can be about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// Work on files. A body, where there is one, is fetched from the replica.
    Files(FileRequest),
    /// More input for a running exec: the body.
    Stdin {
        /// The exec.
        exec_id: ExecId,
        /// Position of the body's first byte; without it, after what was taken before.
        offset: Option<u64>,
        /// Nothing follows.
        close: bool,
    },
    /// A signal for a running exec.
    Signal {
        /// The exec.
        exec_id: ExecId,
        /// 1 to 64.
        signal: i32,
    },
    /// Another size for a running exec's terminal.
    Resize {
        /// The exec.
        exec_id: ExecId,
        /// The size.
        size: TerminalSize,
    },
    /// The end of a running exec that was called off, as its workflow will ask for too.
    Cancel {
        /// The exec.
        exec_id: ExecId,
    },
    /// A granted command, ahead of its workflow. Answered when it was taken, not when it ends.
    Run {
        /// The request that the workflow will make too.
        request: ToolRequest,
    },
}

impl CallKind {
    /// Whether it takes as long as its client reads or writes.
    pub fn is_long(&self) -> bool {
        matches!(self, Self::Files(_) | Self::Stdin { .. })
    }
}

/// What came of a call: one line of JSON. Bytes follow it where [`FileReply`] says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallReply {
    /// Work on files was done.
    Files(FileReply),
    /// Work on files was refused.
    FilesRefused(FileError),
    /// Input was taken.
    Stdin {
        /// Bytes of input that were taken so far.
        offset: u64,
        /// Whether more can come.
        open: bool,
    },
    /// The signal was sent, the size was changed, or the command was taken.
    Done,
    /// The exec does not run, or not in a way that the call fits.
    NotRunning,
    /// The exec has no open input or no terminal.
    NotInteractive,
    /// There is no sandbox and none can be made; for people.
    Unavailable(String),
    /// The session, or the token, has as many calls under way as it may; for people.
    Busy(String),
}
