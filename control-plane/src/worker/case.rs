//! One exec that is to be decided about, with everything that the decision depends on.

use domain::ids::ApprovalId;
use policy::{Decision, Mode, Outcome, Parse};
use protocol::exec::ExecOrder;
use protocol::grant::order_digest;
use serde_json::json;

use crate::judging::{self, Active, Question};
use crate::store::{
    AuditEntry, BY_POLICY, Evidence, Exec, RecordedDecision, Scene, Scope, StoreError,
};

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
            unfit: self.exec.unfit.as_deref(),
            subject: judging::subject(&self.scene),
            mode: self.mode,
        };
        RecordedDecision {
            decision: self.policy.decide(&question),
            policy_version: self.policy.version(),
            decided_by: BY_POLICY.into(),
        }
    }

    /// Writes down the decision that permits or refuses the exec, or asks about it. `approver` is
    /// the token of the human who decided, if one did.
    pub(super) fn audit(
        &self,
        scope: &mut Scope,
        recorded: &RecordedDecision,
        outcome: &'static str,
        approval_id: Option<ApprovalId>,
        approver: Option<String>,
    ) {
        let RecordedDecision { decision, decided_by, .. } = recorded;
        let detail = json!({
            "command": self.exec.command, "order_sha256": order_digest(self.order),
            "image_digest": self.order.image_digest,
            "approval_id": approval_id.or(self.exec.approval_id), "decided_by": decided_by,
            "parse": self.parse(decision), "facts": decision.facts, "rules": decision.rules,
            "reasons": decision.reasons, "sampled_by": self.sampled_by(recorded),
        });
        scope.append_audit(AuditEntry {
            outcome,
            detail,
            ..self.entry(
                recorded,
                AuditEntry::by_part("policy", "exec.authorize", self.exec.id),
                approver,
            )
        });
    }

    /// How its script was read; the call of a tool is no script.
    fn parse(&self, decision: &Decision) -> Option<Parse> {
        self.order.kind.is_shell().then(|| Parse::of(&self.order.command, &decision.facts))
    }

    /// Puts the exec into the queue of reviews, if policy allowed it by itself and a sampling rule draws
    /// it.
    pub(super) async fn sample(
        &self,
        scope: &mut Scope,
        recorded: &RecordedDecision,
    ) -> Result<(), StoreError> {
        match self.sampled_by(recorded) {
            Some(rule) => scope.insert_sample(self.exec.id, rule).await,
            None => Ok(()),
        }
    }

    /// The sampling rule that draws the exec.
    fn sampled_by(&self, recorded: &RecordedDecision) -> Option<&str> {
        let RecordedDecision { decision, decided_by, .. } = recorded;
        if decision.outcome != Outcome::Allow || decided_by != BY_POLICY {
            return None;
        }
        let programs: Vec<&str> = decision.facts.iter().map(|fact| fact.program.as_str()).collect();
        let sampling = self.scene.sampling.as_ref()?;
        judging::draw(sampling, self.exec.id, &decision.rules, &programs)
    }

    /// Writes down what became of an approval by itself: a new version of the policy settled it, or
    /// asks for another reason or by other people; or the answers that there are now suffice.
    pub(super) fn audit_reconsidered(
        &self,
        scope: &mut Scope,
        approval_id: ApprovalId,
        recorded: &RecordedDecision,
        outcome: &'static str,
    ) {
        let detail = json!({ "exec_id": self.exec.id, "decided_by": recorded.decided_by });
        let by_policy = AuditEntry::by_part("policy", "approval.reconsider", approval_id);
        let exec_id = Some(self.exec.id);
        let entry = self.entry(recorded, by_policy, None);
        scope.append_audit(AuditEntry { outcome, detail, exec_id, ..entry });
    }

    /// What every entry about the exec says.
    fn entry(
        &self,
        recorded: &RecordedDecision,
        entry: AuditEntry,
        approver: Option<String>,
    ) -> AuditEntry {
        let RecordedDecision { decision, policy_version, decided_by } = recorded;
        let evidence = Evidence {
            decision: Some(audit::Decision {
                outcome: decision.outcome.as_str().into(),
                rules: decision.rules.clone(),
                policy_version: Some(*policy_version),
                approver,
            }),
            reasons: decision.reasons.clone(),
            programs: decision.facts.iter().map(|fact| fact.program.clone()).collect(),
            ..Evidence::default()
        };
        let session_id = Some(self.exec.session_id);
        AuditEntry { actor: decided_by.clone(), session_id, evidence, ..entry }
    }
}
