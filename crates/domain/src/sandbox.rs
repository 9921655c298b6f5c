//! The life of a sandbox: a container with a workspace, which may outlive the container.

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;
use crate::ids::SandboxId;

/// One incarnation of a session's sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SandboxRef {
    /// The container's incarnation. A command that ran in another one is lost.
    pub id: SandboxId,
    /// The workspace's incarnation: starts at 1, grows by one whenever the workspace was lost.
    pub generation: u32,
}

/// Where a sandbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// Its container is being made.
    Creating,
    /// It waits in the pool, connected, for a session to claim it.
    Pooled,
    /// Its PID 1 is connected: execs can run.
    Ready,
    /// The container lives but PID 1 is not connected: the executor waits for it.
    Detached,
    /// We removed the container and kept the workspace: the next exec gets a new container.
    Stopped,
    /// The container is gone without our doing. The workspace may be there.
    Lost,
    /// We removed it with its workspace.
    Removed,
}

/// What can happen to a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxEvent {
    /// PID 1 connected.
    Attach,
    /// It was put into the pool.
    Pool,
    /// A session claimed it.
    Claim,
    /// The connection to PID 1 broke.
    Detach,
    /// We removed the container and kept the workspace.
    Stop,
    /// The container was found dead or missing.
    Vanish,
    /// We removed the container and the workspace.
    Remove,
}

impl SandboxState {
    /// The state after `event`.
    ///
    /// # Errors
    /// When the event is not legal here: no container comes back, none goes back to the pool.
    pub fn apply(self, event: SandboxEvent) -> Result<Self, IllegalTransition> {
        use SandboxEvent as E;
        match (self, event) {
            (Self::Creating | Self::Detached, E::Attach) => Ok(Self::Ready),
            (Self::Ready, E::Pool) => Ok(Self::Pooled),
            (Self::Pooled, E::Claim) => Ok(Self::Ready),
            (Self::Ready | Self::Pooled, E::Detach) => Ok(Self::Detached),
            (Self::Creating | Self::Ready | Self::Detached, E::Stop) => Ok(Self::Stopped),
            (Self::Creating | Self::Pooled | Self::Ready | Self::Detached, E::Vanish) => {
                Ok(Self::Lost)
            }
            (state, E::Remove) if state != Self::Removed => Ok(Self::Removed),
            _ => Err(IllegalTransition {
                subject: "sandbox",
                state: format!("{self:?}"),
                event: format!("{event:?}"),
            }),
        }
    }

    /// Whether nothing can ever run in this container again.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Stopped | Self::Lost | Self::Removed)
    }
}

#[cfg(test)]
mod tests {
    use super::SandboxEvent::{Attach, Claim, Detach, Pool, Remove, Stop, Vanish};
    use super::SandboxState::{Creating, Detached, Lost, Pooled, Ready, Removed, Stopped};
    use super::*;

    const STATES: [SandboxState; 7] = [Creating, Pooled, Ready, Detached, Stopped, Lost, Removed];
    const EVENTS: [SandboxEvent; 7] = [Attach, Pool, Claim, Detach, Stop, Vanish, Remove];

    /// Every legal transition; all others are illegal.
    const LEGAL: [(SandboxState, SandboxEvent, SandboxState); 19] = [
        (Creating, Attach, Ready),
        (Creating, Stop, Stopped),
        (Creating, Vanish, Lost),
        (Creating, Remove, Removed),
        (Pooled, Claim, Ready),
        (Pooled, Detach, Detached),
        (Pooled, Vanish, Lost),
        (Pooled, Remove, Removed),
        (Ready, Pool, Pooled),
        (Ready, Detach, Detached),
        (Ready, Stop, Stopped),
        (Ready, Vanish, Lost),
        (Ready, Remove, Removed),
        (Detached, Attach, Ready),
        (Detached, Stop, Stopped),
        (Detached, Vanish, Lost),
        (Detached, Remove, Removed),
        (Stopped, Remove, Removed),
        (Lost, Remove, Removed),
    ];

    #[test]
    fn exactly_the_listed_transitions_are_legal() {
        for state in STATES {
            for event in EVENTS {
                let expected = LEGAL.iter().find(|row| (row.0, row.1) == (state, event));
                assert_eq!(
                    state.apply(event).ok(),
                    expected.map(|row| row.2),
                    "{state:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn a_gone_sandbox_never_comes_back() {
        for state in STATES.into_iter().filter(|state| state.is_gone()) {
            for event in EVENTS {
                assert!(state.apply(event).is_err() || event == Remove, "{state:?} {event:?}");
            }
        }
    }
}
