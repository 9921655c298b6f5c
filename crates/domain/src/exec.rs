//! The life of an exec as a state machine. A finished exec never changes again.

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

/// Where an exec stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ExecState {
    /// Waits for a human.
    PendingApproval,
    /// Accepted, not started.
    Queued,
    /// Its process was started.
    Running,
    /// The process ended by itself, with an exit code or by a signal it got inside the sandbox.
    Exited,
    /// Stopped because its time was over.
    TimedOut,
    /// Killed from outside: by the kernel for want of memory, or with its sandbox.
    Killed,
    /// Called off by a client.
    Cancelled,
    /// Never started, because policy or a human said no.
    Denied,
    /// Its sandbox vanished: it may have run in part. Never run again on its own.
    Lost,
}

/// How an exec ended: the terminal half of [`ExecState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecOutcome {
    /// See [`ExecState::Exited`].
    Exited,
    /// See [`ExecState::TimedOut`].
    TimedOut,
    /// See [`ExecState::Killed`].
    Killed,
    /// See [`ExecState::Cancelled`].
    Cancelled,
    /// See [`ExecState::Denied`].
    Denied,
    /// See [`ExecState::Lost`].
    Lost,
}

/// What can happen to an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecEvent {
    /// Policy wants a human to look.
    Ask,
    /// Policy or a human allowed it.
    Allow,
    /// The executor started its process.
    Start,
    /// It ended.
    Finish(ExecOutcome),
}

impl ExecState {
    /// Every state, for tables and checks.
    pub const ALL: [Self; 9] = [
        Self::PendingApproval,
        Self::Queued,
        Self::Running,
        Self::Exited,
        Self::TimedOut,
        Self::Killed,
        Self::Cancelled,
        Self::Denied,
        Self::Lost,
    ];

    /// The state after `event`.
    ///
    /// # Errors
    /// When the event is not legal here; above all, a terminal state accepts nothing.
    pub fn apply(self, event: ExecEvent) -> Result<Self, IllegalTransition> {
        use ExecEvent as E;
        use ExecOutcome as O;
        match (self, event) {
            (Self::Queued, E::Ask) => Ok(Self::PendingApproval),
            (Self::PendingApproval | Self::Queued, E::Allow) => Ok(Self::Queued),
            (Self::PendingApproval | Self::Queued, E::Finish(O::Denied)) => Ok(Self::Denied),
            (Self::PendingApproval, E::Finish(O::Cancelled)) => Ok(Self::Cancelled),
            (Self::Queued | Self::Running, E::Start) => Ok(Self::Running),
            (Self::Queued | Self::Running, E::Finish(outcome)) if outcome != O::Denied => {
                Ok(outcome.into())
            }
            _ => Err(IllegalTransition {
                subject: "exec",
                state: self.as_str().into(),
                event: format!("{event:?}"),
            }),
        }
    }

    /// The outcome, if this is a terminal state.
    pub fn outcome(self) -> Option<ExecOutcome> {
        match self {
            Self::PendingApproval | Self::Queued | Self::Running => None,
            Self::Exited => Some(ExecOutcome::Exited),
            Self::TimedOut => Some(ExecOutcome::TimedOut),
            Self::Killed => Some(ExecOutcome::Killed),
            Self::Cancelled => Some(ExecOutcome::Cancelled),
            Self::Denied => Some(ExecOutcome::Denied),
            Self::Lost => Some(ExecOutcome::Lost),
        }
    }

    /// Whether nothing can happen to the exec any more.
    pub fn is_terminal(self) -> bool {
        self.outcome().is_some()
    }

    /// The name used in tables, URLs and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PendingApproval => "pending_approval",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::TimedOut => "timed_out",
            Self::Killed => "killed",
            Self::Cancelled => "cancelled",
            Self::Denied => "denied",
            Self::Lost => "lost",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl From<ExecOutcome> for ExecState {
    fn from(outcome: ExecOutcome) -> Self {
        match outcome {
            ExecOutcome::Exited => Self::Exited,
            ExecOutcome::TimedOut => Self::TimedOut,
            ExecOutcome::Killed => Self::Killed,
            ExecOutcome::Cancelled => Self::Cancelled,
            ExecOutcome::Denied => Self::Denied,
            ExecOutcome::Lost => Self::Lost,
        }
    }
}

impl ExecOutcome {
    /// The name used in tables, URLs and logs.
    pub fn as_str(self) -> &'static str {
        ExecState::from(self).as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTCOMES: [ExecOutcome; 6] = [
        ExecOutcome::Exited,
        ExecOutcome::TimedOut,
        ExecOutcome::Killed,
        ExecOutcome::Cancelled,
        ExecOutcome::Denied,
        ExecOutcome::Lost,
    ];

    #[test]
    fn a_finished_exec_accepts_nothing() {
        for outcome in OUTCOMES {
            let state = ExecState::from(outcome);
            for event in [ExecEvent::Ask, ExecEvent::Allow, ExecEvent::Start]
                .into_iter()
                .chain(OUTCOMES.map(ExecEvent::Finish))
            {
                assert!(state.apply(event).is_err(), "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn an_unapproved_exec_never_starts() {
        assert!(ExecState::PendingApproval.apply(ExecEvent::Start).is_err());
        assert!(ExecState::PendingApproval.apply(ExecEvent::Finish(ExecOutcome::Exited)).is_err());
    }

    #[test]
    fn a_running_exec_cannot_be_denied() {
        assert!(ExecState::Running.apply(ExecEvent::Finish(ExecOutcome::Denied)).is_err());
    }

    #[test]
    fn names_are_unique_and_round_trip() {
        for state in ExecState::ALL {
            assert_eq!(ExecState::from_name(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).ok(), Some(state.as_str().into()));
        }
    }
}
