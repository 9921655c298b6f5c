//! One exec that is to be decided about, with everything that the decision depends on.

use domain::ids::ApprovalId;
use policy::Mode;
use protocol::exec::ExecOrder;
use protocol::grant::order_digest;
use serde_json::{Value, json};

use crate::judging::{self, Active, Question};
use crate::store::{AuditEntry, Exec, RecordedDecision, Scene, Scope};

/// See the module.
pub(super) struct Case<'a> {
    pub(super) exec: &'a Exec,
    pub(super) order: &'a ExecOrder,
    pub(super) scene: Scene,
    pub(super) policy: Active,
    pub(super) mode: Mode,
}

impl Case<'_> {
    /// What policy says now.
    pub(super) fn judge(&self) -> RecordedDecision {
        let question = Question {
            kind: self.order.kind,
            command: &self.order.command,
            cwd: &self.order.cwd,
            has_env: !self.order.env.is_empty(),
            subject: judging::subject(&self.scene),
            mode: self.mode,
        };
        RecordedDecision {
            decision: self.policy.decide(&question),
            policy_version: self.policy.version(),
            decided_by: "policy".into(),
        }
    }

    /// Writes down the decision that permits or refuses the exec, or asks about it.
    pub(super) fn audit(
        &self,
        scope: &mut Scope,
        recorded: &RecordedDecision,
        outcome: &'static str,
        approval_id: Option<ApprovalId>,
    ) {
        let detail = json!({
            "decision": recorded, "order_sha256": order_digest(self.order),
            "approval_id": approval_id.or(self.exec.approval_id),
        });
        let object = self.exec.id.to_string();
        scope.append_audit(self.entry(recorded, "exec.authorize", object, outcome, detail));
    }

    /// Writes down that a new version of the policy, and nobody else, settled an approval.
    pub(super) fn audit_reconsidered(
        &self,
        scope: &mut Scope,
        approval_id: ApprovalId,
        recorded: &RecordedDecision,
        outcome: &'static str,
    ) {
        let detail = json!({
            "exec_id": self.exec.id, "policy_version": recorded.policy_version,
            "rules": recorded.decision.rules, "reasons": recorded.decision.reasons,
            "decided_by": recorded.decided_by,
        });
        let object = approval_id.to_string();
        scope.append_audit(self.entry(recorded, "approval.reconsider", object, outcome, detail));
    }

    fn entry(
        &self,
        recorded: &RecordedDecision,
        action: &'static str,
        object: String,
        outcome: &'static str,
        detail: Value,
    ) -> AuditEntry {
        AuditEntry {
            actor: recorded.decided_by.clone(),
            token_id: None,
            address: None,
            action,
            object,
            session_id: Some(self.exec.session_id),
            outcome,
            detail,
        }
    }
}
