//! Modes of a session. A mode can tighten a decision, never loosen it.

use serde::{Deserialize, Serialize};

use crate::decision::{Decision, Outcome};
use crate::facts::{Effect, Fact};

/// How a session deals with decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// As the policy says.
    #[default]
    Policy,
    /// A human is asked about everything that would be allowed.
    AskAll,
    /// Nobody is there to answer: what would be asked is denied, with the reason.
    DenyAsks,
    /// Only what is understood as reading may run at all.
    ReadOnly,
}

impl Mode {
    /// The name used in tables, URLs and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::AskAll => "ask-all",
            Self::DenyAsks => "deny-asks",
            Self::ReadOnly => "read-only",
        }
    }

    /// The mode of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Policy, Self::AskAll, Self::DenyAsks, Self::ReadOnly]
            .into_iter()
            .find(|mode| mode.as_str() == name)
    }

    /// What an approval policy of codex comes down to.
    ///
    /// | codex | here | because |
    /// |---|---|---|
    /// | `untrusted` (`unless-trusted`) | `policy` | known harmless commands run, the rest asks: the shipped policy says just that |
    /// | `on-request` | `policy` | there the model chooses when to ask; here the policy does, whatever the model wishes |
    /// | `on-failure` | `policy` | there everything runs first and asks after it failed; nothing runs here before it may |
    /// | `never` | `deny-asks` | nobody is asked; what would need approval comes back as a denial |
    pub fn from_codex_approval_policy(name: &str) -> Option<Self> {
        match name {
            "untrusted" | "unless-trusted" | "on-request" | "on-failure" => Some(Self::Policy),
            "never" => Some(Self::DenyAsks),
            _ => None,
        }
    }

    /// What an exec-sandbox mode of codex adds: `read-only` tightens, the others change nothing.
    pub fn from_codex_sandbox_mode(name: &str) -> Option<Self> {
        (name == "read-only").then_some(Self::ReadOnly)
    }
}

impl Decision {
    /// The decision as it stands in a session of this mode.
    pub fn under(mut self, mode: Mode) -> Self {
        let reads =
            |fact: &Fact| fact.understood && fact.effects.iter().all(|e| *e == Effect::Read);
        let (outcome, reason) = match (mode, self.outcome) {
            (Mode::AskAll, Outcome::Allow) => {
                (Outcome::Ask, "the session asks about everything".to_owned())
            }
            (Mode::DenyAsks, Outcome::Ask) => {
                let why = self.reasons.join("; ");
                (Outcome::Deny, format!("nobody is there to approve it: {why}"))
            }
            (Mode::ReadOnly, Outcome::Allow | Outcome::Ask) if !self.facts.iter().all(reads) => {
                let why = self.facts.iter().find_map(|fact| fact.unclear.clone());
                let why = why.unwrap_or_else(|| "it may do more than read".into());
                (Outcome::Deny, format!("the session is read-only: {why}"))
            }
            _ => return self,
        };
        self.outcome = outcome;
        self.rules = vec![format!("mode-{}", mode.as_str())];
        self.reasons = vec![reason];
        self
    }
}

#[cfg(test)]
mod tests {
    use crate::{CommandRequest, Engine, Mode, Outcome};

    fn decide(command: &str, mode: Mode) -> Outcome {
        let request = CommandRequest { command, cwd: "/work", ..CommandRequest::default() };
        Engine::shipped().decide(&request).under(mode).outcome
    }

    #[test]
    fn modes_tighten() {
        use Outcome::{Allow, Ask, Deny};
        for (mode, read, write, opaque) in [
            (Mode::Policy, Allow, Ask, Ask),
            (Mode::AskAll, Ask, Ask, Ask),
            (Mode::DenyAsks, Allow, Deny, Deny),
            (Mode::ReadOnly, Allow, Deny, Deny),
        ] {
            assert_eq!(decide("ls", mode), read, "{mode:?}");
            assert_eq!(decide("touch a", mode), write, "{mode:?}");
            assert_eq!(decide("ls > a", mode), opaque, "{mode:?}");
        }
    }

    #[test]
    fn no_mode_loosens() {
        for mode in [Mode::Policy, Mode::AskAll, Mode::DenyAsks, Mode::ReadOnly] {
            for command in ["ls", "touch a", "ls > a", "git push", "cargo test"] {
                assert!(
                    decide(command, mode) >= decide(command, Mode::Policy),
                    "{mode:?} {command}"
                );
            }
            assert_eq!(Mode::from_name(mode.as_str()), Some(mode));
        }
    }
}
