//! What comes out: allow, ask or deny, the rules behind it, and the facts.

use serde::{Deserialize, Serialize};

use crate::facts::{Fact, NamedPath};

/// What to do with a command. The order is that of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PolicyOutcome))]
pub enum Outcome {
    /// Run it.
    Allow,
    /// Ask a human.
    Ask,
    /// Do not run it.
    Deny,
}

impl Outcome {
    /// The name used in tables, URLs and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }

    /// The outcome of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Allow, Self::Ask, Self::Deny].into_iter().find(|outcome| outcome.as_str() == name)
    }
}

/// Who has to approve, where a rule asks for more than one person of any role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Approvers {
    /// How many people.
    pub count: u32,
    /// The roles that one of them each must have; empty for any role that may approve.
    pub roles: Vec<String>,
}

impl Default for Approvers {
    fn default() -> Self {
        Self { count: 1, roles: Vec::new() }
    }
}

/// What to do with a command, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What to do.
    pub outcome: Outcome,
    /// Ids of the rules that decided.
    pub rules: Vec<String>,
    /// Sentences for people.
    pub reasons: Vec<String>,
    /// What was understood, command by command.
    pub facts: Vec<Fact>,
    /// Who has to approve, if it asks.
    #[serde(default)]
    pub approvers: Approvers,
}

impl Decision {
    /// The paths that have to be looked at before the command runs: it is allowed on the promise that
    /// none of them is a link that leads out of the workspace. In order, each once.
    pub fn named_paths(&self) -> Vec<NamedPath<'_>> {
        let understood = self.facts.iter().filter(|fact| fact.understood);
        let mut paths: Vec<NamedPath<'_>> = understood.flat_map(Fact::named_paths).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// The folders whose repository configuration has to be checked before the command runs:
    /// it is allowed on the promise that the platform does so.
    pub fn git_folders(&self) -> Vec<&str> {
        let hardened = self.facts.iter().filter(|fact| fact.hardened && fact.understood);
        let mut folders: Vec<&str> = hardened.map(|fact| fact.cwd.as_str()).collect();
        folders.sort_unstable();
        folders.dedup();
        folders
    }
}
