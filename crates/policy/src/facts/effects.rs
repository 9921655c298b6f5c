//! What an invocation may do. Four effects; an opaque script has all of them.

use serde::{Deserialize, Serialize};

/// One thing that a command may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Effect {
    /// Reads files of the workspace, or facts about the sandbox.
    Read,
    /// Creates, changes or removes something.
    Write,
    /// Talks to another machine.
    Network,
    /// Runs code that the workspace or the network decides about.
    Execute,
}

impl Effect {
    /// All of them: what something that nobody understands may do.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Network, Self::Execute];

    /// The name that policies compare with.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Network => "network",
            Self::Execute => "execute",
        }
    }
}
