//! The life of a sandbox: a container with a workspace, numbered by generation.

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;
use crate::ids::SandboxId;

/// One incarnation of a session's sandbox. A new generation means that state was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SandboxRef {
    /// The sandbox.
    pub id: SandboxId,
    /// Starts at 1 and grows by one whenever the workspace was lost.
    pub generation: u32,
}

/// Where a sandbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// Its container is being made.
    Creating,
    /// Its PID 1 is connected: execs can run.
    Ready,
    /// The container lives but PID 1 is not connected: the executor waits for it.
    Detached,
    /// The container is gone without our doing.
    Lost,
    /// We removed it.
    Removed,
}

/// What can happen to a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxEvent {
    /// PID 1 connected.
    Attach,
    /// The connection to PID 1 broke.
    Detach,
    /// The container was found dead or missing.
    Vanish,
    /// We removed the container.
    Remove,
}

impl SandboxState {
    /// The state after `event`.
    ///
    /// # Errors
    /// When the event is not legal here: a lost or removed sandbox never comes back.
    pub fn apply(self, event: SandboxEvent) -> Result<Self, IllegalTransition> {
        use SandboxEvent as E;
        match (self, event) {
            (Self::Creating | Self::Detached, E::Attach) => Ok(Self::Ready),
            (Self::Ready, E::Detach) => Ok(Self::Detached),
            (Self::Creating | Self::Ready | Self::Detached, E::Vanish) => Ok(Self::Lost),
            (Self::Creating | Self::Ready | Self::Detached | Self::Lost, E::Remove) => {
                Ok(Self::Removed)
            }
            _ => Err(IllegalTransition {
                subject: "sandbox",
                state: format!("{self:?}"),
                event: format!("{event:?}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gone_sandbox_never_comes_back() {
        for state in [SandboxState::Lost, SandboxState::Removed] {
            assert!(state.apply(SandboxEvent::Attach).is_err());
        }
    }
}
