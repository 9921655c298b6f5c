//! Messages of the session workflow: its input, its signals' contents, its activities' results.
//!
//! All of it is readable in Temporal's history. It holds ids and outcomes; commands, prompts and
//! output appear sealed or not at all.

use domain::agenda::Work;
use domain::ids::{ApprovalId, ExecId, SessionId, TenantId, TurnId};
use serde::{Deserialize, Serialize};

use crate::exec::{ToolReply, ToolRequest};

/// Queue of the session workflow and the control activities.
pub const SESSIONS_QUEUE: &str = "sessions";

/// Workflow id of a session.
pub fn workflow_id(session_id: SessionId) -> String {
    format!("session/{session_id}")
}

/// Input of `SessionWorkflow`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionInput {
    /// Whose session.
    pub tenant_id: TenantId,
    /// Which session.
    pub session_id: SessionId,
    /// Work that an earlier run left, in order.
    #[serde(default)]
    pub carried: Vec<Work>,
    /// Queue of the executors that took the session's commands so far.
    #[serde(default)]
    pub task_queue: Option<String>,
    /// Events of earlier runs that can still be asked for.
    #[serde(default)]
    pub events: EventLog,
}

/// Names an exec to the activity `authorize`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ExecRef {
    /// Whose exec.
    pub tenant_id: TenantId,
    /// The session that carries it out; an exec of another one is refused.
    pub session_id: SessionId,
    /// Which exec.
    pub exec_id: ExecId,
}

/// Names a session to the activity `find_sandbox`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct SessionRef {
    /// Whose session.
    pub tenant_id: TenantId,
    /// Which session.
    pub session_id: SessionId,
}

/// Output of the activity `authorize`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authorized {
    /// It is over already: denied, cancelled, or finished by an earlier attempt.
    Settled,
    /// Not yet: a human has to decide, or an executor has to come.
    Wait {
        /// The open question, when a human has to decide.
        approval_id: Option<ApprovalId>,
        /// Milliseconds after which to look again without any hint.
        look_again_in_ms: u64,
    },
    /// It may run now.
    Run {
        /// What to send to the executor.
        request: ToolRequest,
        /// The queue of an executor that can take it.
        task_queue: String,
        /// Milliseconds that the command may run.
        timeout_ms: u64,
    },
}

/// Input of the activity `record`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordRequest {
    /// Whose session.
    pub tenant_id: TenantId,
    /// Which session.
    pub session_id: SessionId,
    /// What happened.
    pub fact: Fact,
}

/// Something that the control plane has to write down.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// An executor answered.
    Replied {
        /// The exec.
        exec_id: ExecId,
        /// The answer.
        reply: Box<ToolReply>,
    },
    /// Nothing new: is the exec over, whoever wrote that down? [`Recorded::Done`] says yes.
    Asked {
        /// The exec.
        exec_id: ExecId,
    },
    /// No executor answered, and none will.
    Unanswered {
        /// The exec.
        exec_id: ExecId,
    },
    /// A turn ended without the model's doing.
    TurnEnded {
        /// The turn.
        turn_id: TurnId,
        /// How.
        end: TurnEnd,
    },
    /// The session's workflow ends.
    SessionClosed,
}

/// How a turn ended without the model's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnEnd {
    /// A client interrupted it.
    Interrupted,
    /// The model could not be reached in time.
    ModelUnavailable,
    /// The turn took more model calls than one turn may.
    TooManySteps,
}

/// Output of the activity `record`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    /// Written down; nothing more to do.
    Done,
    /// The exec never started and may be tried again: ask `authorize` again.
    Retry {
        /// Milliseconds to wait before that.
        after_ms: u64,
    },
}

/// Input of the activity `model_call`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ModelRequest {
    /// Whose session.
    pub tenant_id: TenantId,
    /// Which session.
    pub session_id: SessionId,
    /// Which turn. The conversation itself stands in the control plane's database.
    pub turn_id: TurnId,
    /// How many model calls this turn has had; makes a repeated attempt harmless.
    pub step: u32,
}

/// Output of the activity `model_call`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStep {
    /// Number of this step, from 0.
    pub step: u32,
    /// Commands that the model wants run before it goes on.
    pub execs: Vec<ExecId>,
    /// Whether the turn is over.
    pub done: bool,
}

/// Input of the activity `close_sandbox`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct CloseSandbox {
    /// Whose sandbox.
    pub tenant_id: TenantId,
    /// The session that ends.
    pub session_id: SessionId,
}

/// Most events that the query `get_events_since` can look back on.
pub const MAX_EVENTS: usize = 512;

/// One thing that happened in a session, by ids only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowEvent {
    /// Position, from 0, over all runs of the workflow.
    pub index: u64,
    /// Such as `exec.authorized`.
    pub kind: String,
    /// What it is about.
    pub subject: String,
}

/// The newest events of a session, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EventLog {
    next_index: u64,
    kept: std::collections::VecDeque<WorkflowEvent>,
}

/// Answer of the query `get_events_since`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventPage {
    /// Events from the index asked for, as far as they are still kept.
    pub events: Vec<WorkflowEvent>,
    /// The index to ask for next.
    pub watermark: u64,
}

impl EventLog {
    /// Appends an event and forgets the oldest one when there are too many.
    pub fn push(&mut self, kind: &str, subject: String) {
        let index = self.next_index;
        self.next_index += 1;
        self.kept.push_back(WorkflowEvent { index, kind: kind.into(), subject });
        if self.kept.len() > MAX_EVENTS {
            self.kept.pop_front();
        }
    }

    /// The events from `index` on.
    pub fn since(&self, index: u64) -> EventPage {
        let events = self.kept.iter().filter(|event| event.index >= index).cloned().collect();
        EventPage { events, watermark: self.next_index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_log_is_bounded_and_keeps_its_numbering() {
        let mut log = EventLog::default();
        for _ in 0..MAX_EVENTS + 3 {
            log.push("exec.finished", String::new());
        }
        let page = log.since(0);
        assert_eq!(page.events.len(), MAX_EVENTS);
        assert_eq!(page.events[0].index, 3);
        assert_eq!(page.watermark, MAX_EVENTS as u64 + 3);
        assert!(log.since(page.watermark).events.is_empty());
    }
}
