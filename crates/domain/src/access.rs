//! Who may do what: the one table of roles and operations. Handlers name an operation, never a role.

use serde::{Deserialize, Serialize};

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// Manages tenants, reads its own audit log, and sees no tenant's data.
    Platform,
    /// Everything inside one tenant.
    Owner,
    /// Sessions, turns and execs.
    Agent,
    /// Approvals and the audit log.
    Reviewer,
    /// Looks, changes nothing.
    Viewer,
    /// An executor process; no person or agent holds it.
    Executor,
}

/// One kind of thing that a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Create and list tenants.
    ManageTenants,
    /// Create, list and revoke a tenant's tokens.
    ManageTokens,
    /// Create, steer and end sessions; post turns and execs.
    Work,
    /// Read sessions, execs, output and events.
    ReadWork,
    /// List approvals.
    ReadApprovals,
    /// Approve or deny.
    DecideApprovals,
    /// Read one's own audit chain (the platform has one too), export it, and have it sealed by a
    /// checkpoint.
    ReadChain,
    /// Read what else the audit log has of a tenant: sessions as evidence, and reviews.
    ReadAudit,
    /// Say what one thinks of an audit event.
    ReviewAudit,
    /// Say what of the audit log is reviewed and how long its details stay, and erase them.
    ManageAudit,
    /// Read policies, ask what they say, and simulate others.
    ReadPolicy,
    /// Put a new version of the policy.
    WritePolicy,
    /// Create, list and delete a tenant's webhooks.
    ManageWebhooks,
    /// Enrol as an executor and report from there.
    Execute,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 14] = [
        Self::ManageTenants,
        Self::ManageTokens,
        Self::Work,
        Self::ReadWork,
        Self::ReadApprovals,
        Self::DecideApprovals,
        Self::ReadChain,
        Self::ReadAudit,
        Self::ReviewAudit,
        Self::ManageAudit,
        Self::ReadPolicy,
        Self::WritePolicy,
        Self::ManageWebhooks,
        Self::Execute,
    ];

    /// The name used in the API's description.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ManageTenants => "manage_tenants",
            Self::ManageTokens => "manage_tokens",
            Self::Work => "work",
            Self::ReadWork => "read_work",
            Self::ReadApprovals => "read_approvals",
            Self::DecideApprovals => "decide_approvals",
            Self::ReadChain => "read_chain",
            Self::ReadAudit => "read_audit",
            Self::ReviewAudit => "review_audit",
            Self::ManageAudit => "manage_audit",
            Self::ReadPolicy => "read_policy",
            Self::WritePolicy => "write_policy",
            Self::ManageWebhooks => "manage_webhooks",
            Self::Execute => "execute",
        }
    }

    /// The operation with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == name)
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Platform, Self::Owner, Self::Agent, Self::Reviewer, Self::Viewer, Self::Executor];

    /// Whether this role may do `operation`.
    pub fn allows(self, operation: Operation) -> bool {
        use Operation as O;
        match self {
            Self::Platform => matches!(operation, O::ManageTenants | O::ReadChain),
            Self::Owner => !matches!(operation, O::ManageTenants | O::Execute),
            Self::Agent => matches!(operation, O::Work | O::ReadWork | O::ReadApprovals),
            Self::Reviewer => matches!(
                operation,
                O::ReadWork
                    | O::ReadApprovals
                    | O::DecideApprovals
                    | O::ReadChain
                    | O::ReadAudit
                    | O::ReviewAudit
                    | O::ReadPolicy
            ),
            Self::Viewer => matches!(operation, O::ReadWork | O::ReadApprovals),
            Self::Executor => matches!(operation, O::Execute),
        }
    }

    /// Whether a token of this role may be issued for a tenant by its owner.
    pub fn is_issuable_by_owner(self) -> bool {
        !matches!(self, Self::Platform)
    }

    /// The name used in tokens, tables and URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Owner => "owner",
            Self::Agent => "agent",
            Self::Reviewer => "reviewer",
            Self::Viewer => "viewer",
            Self::Executor => "executor",
        }
    }

    /// The role with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole matrix, so that a change of it is seen in review.
    #[test]
    fn role_matrix() {
        let rows: Vec<String> = Role::ALL
            .into_iter()
            .map(|role| {
                let marks: String = Operation::ALL
                    .into_iter()
                    .map(|operation| if role.allows(operation) { 'x' } else { '.' })
                    .collect();
                format!("{:<9}{marks}", role.as_str())
            })
            .collect();
        assert_eq!(
            rows,
            [
                "platform x.....x.......",
                "owner    .xxxxxxxxxxxx.",
                "agent    ..xxx.........",
                "reviewer ...xxxxxx.x...",
                "viewer   ...xx.........",
                "executor .............x",
            ]
        );
    }
}
