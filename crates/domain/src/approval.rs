//! The life of an approval: decided once, by whoever is first.

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ApprovalState {
    /// Waits for a decision.
    Pending,
    /// A human said yes.
    Approved,
    /// A human said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The exec was called off before anybody answered.
    Cancelled,
}

impl ApprovalState {
    /// The name used in tables, URLs and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pending, Self::Approved, Self::Denied, Self::Expired, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == name)
    }

    /// Settles a pending approval as `verdict`.
    ///
    /// # Errors
    /// When it was settled before, or `verdict` is [`ApprovalState::Pending`].
    pub fn settle(self, verdict: Self) -> Result<Self, IllegalTransition> {
        match (self, verdict) {
            (Self::Pending, Self::Approved | Self::Denied | Self::Expired | Self::Cancelled) => {
                Ok(verdict)
            }
            _ => Err(IllegalTransition {
                subject: "approval",
                state: self.as_str().into(),
                event: format!("become {}", verdict.as_str()),
            }),
        }
    }
}

/// How far an answer reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ApprovalScope {
    /// This exec and no other.
    #[default]
    Once,
    /// Also the same command later in the session.
    Session,
}

impl ApprovalScope {
    /// The name used in tables and URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Session => "session",
        }
    }

    /// The scope with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Once, Self::Session].into_iter().find(|scope| scope.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_decision_stands() {
        let approved = ApprovalState::Pending.settle(ApprovalState::Approved);
        assert_eq!(approved, Ok(ApprovalState::Approved));
        assert!(ApprovalState::Approved.settle(ApprovalState::Denied).is_err());
        assert!(ApprovalState::Expired.settle(ApprovalState::Approved).is_err());
        assert!(ApprovalState::Pending.settle(ApprovalState::Pending).is_err());
    }
}
