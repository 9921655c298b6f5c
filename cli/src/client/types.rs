//! The API's documents, as far as clients look into them. Unknown fields are ignored on reading.

use std::collections::BTreeMap;

use domain::exec::ExecState;
use domain::limits::SandboxLimits;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins, if there is one.
    #[serde(default)]
    pub next_cursor: Option<Value>,
}

/// Body of `POST /v1/sessions`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewSession {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Another image than the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Model slug for its turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How it treats what policy says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_mode: Option<String>,
    /// What it is for; policies may ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Other limits of its sandbox than the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<SandboxLimits>,
}

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub session_id: String,
    /// What people call it.
    #[serde(default)]
    pub name: Option<String>,
    /// `open`, `closing` or `closed`.
    pub state: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Body of `POST /v1/sessions/{id}/execs`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ExecRequest {
    /// Script for `bash -c`.
    pub command: String,
    /// Working directory; `/work` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Additional variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Milliseconds that it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Milliseconds that the answer may wait for the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Whether it is only started: nobody waits for it, and it may outlive what came after.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// Whether its input stays open for what is sent while it runs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stdin_open: bool,
    /// It gets a terminal of this size, and one stream of output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<TerminalSize>,
}

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines, 1 to 1000.
    pub rows: u16,
    /// Columns, 1 to 1000.
    pub cols: u16,
}

/// How much input an exec has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTaken {
    /// Bytes in all.
    pub offset: u64,
    /// Whether more can come.
    pub open: bool,
}

impl ExecRequest {
    /// A command with nothing else asked for.
    pub fn new(command: impl Into<String>) -> Self {
        Self { command: command.into(), ..Self::default() }
    }
}

/// An exec.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// Its id.
    pub exec_id: String,
    /// Its session.
    pub session_id: String,
    /// Where it stands.
    pub state: ExecState,
    /// `shell` for a script, `tool` for another tool's call.
    #[serde(default)]
    pub kind: String,
    /// What is run.
    pub command: String,
    /// Whether it was only started, and nobody waits for it.
    #[serde(default)]
    pub background: bool,
    /// Whether it takes input while it runs.
    #[serde(default)]
    pub stdin_open: bool,
    /// Its terminal, if it has one.
    #[serde(default)]
    pub tty: Option<TerminalSize>,
    /// Processes that it left behind, which were ended with it.
    #[serde(default)]
    pub survivors: u32,
    /// What `exit()` got.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// What was decided about it.
    #[serde(default)]
    pub decision: Option<Decision>,
    /// The open question to a human, if there is or was one.
    #[serde(default)]
    pub approval_id: Option<String>,
    /// Standard output.
    #[serde(default)]
    pub stdout: StreamView,
    /// Standard error.
    #[serde(default)]
    pub stderr: StreamView,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What was decided about an exec, and why.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Decision {
    /// `allow`, `ask` or `deny`.
    #[serde(default)]
    pub outcome: String,
    /// Why, in sentences.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// One output stream of an exec, shortened.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StreamView {
    /// Bytes that the command wrote.
    #[serde(default)]
    pub bytes_total: u64,
    /// Its beginning, as text.
    #[serde(default)]
    pub head: String,
    /// Its end, as far as it is not in `head`.
    #[serde(default)]
    pub tail: String,
    /// Whether something between is left out.
    #[serde(default)]
    pub truncated: bool,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// Its id.
    pub turn_id: String,
    /// Its session.
    pub session_id: String,
    /// `queued`, `running`, `completed`, `failed` or `interrupted`.
    pub state: String,
    /// The agent's last message.
    #[serde(default)]
    pub answer: Option<String>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
}

impl Turn {
    /// Whether nothing can happen to it any more.
    pub fn is_terminal(&self) -> bool {
        !matches!(self.state.as_str(), "queued" | "running")
    }
}

/// An approval: an open question to a human, or an answered one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub approval_id: String,
    /// The exec that waits for it.
    pub exec_id: String,
    /// Where it stands.
    pub state: String,
    /// What would run.
    #[serde(default)]
    pub command: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A freshly issued token.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub token_id: String,
    /// The token itself, shown this once.
    pub token: String,
}
