//! The life of a session. A closed session accepts no work.

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SessionState {
    /// Accepts turns and execs.
    Open,
    /// Was asked to end: what runs is finished or called off, nothing new is accepted.
    Closing,
    /// Over; its sandbox is gone.
    Closed,
}

/// What can happen to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// A client asked for its end.
    RequestShutdown,
    /// Its workflow has ended.
    Close,
}

impl SessionState {
    /// The state after `event`.
    ///
    /// # Errors
    /// When the event is not legal here.
    pub fn apply(self, event: SessionEvent) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Open | Self::Closing, SessionEvent::RequestShutdown) => Ok(Self::Closing),
            (Self::Open | Self::Closing, SessionEvent::Close) => Ok(Self::Closed),
            (Self::Closed, _) => Err(IllegalTransition {
                subject: "session",
                state: self.as_str().into(),
                event: format!("{event:?}"),
            }),
        }
    }

    /// The name used in tables, URLs and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Closing, Self::Closed].into_iter().find(|state| state.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shutdown_may_be_asked_twice_but_not_after_the_end() {
        let closing = SessionState::Open.apply(SessionEvent::RequestShutdown);
        assert_eq!(closing, Ok(SessionState::Closing));
        assert_eq!(
            SessionState::Closing.apply(SessionEvent::RequestShutdown),
            Ok(SessionState::Closing)
        );
        assert!(SessionState::Closed.apply(SessionEvent::RequestShutdown).is_err());
    }
}
