//! Appends to a chain of the audit log.
//!
//! Writing holds the chain's head until the transaction ends: numbers have no gaps, because a
//! transaction that fails gives its number back.

use audit::{Detail, Event, GENESIS, Pieces, Salt, Sandbox};
use domain::ids::ExecId;

use super::{AuditEntry, Scope, StoreError, audit_terms};

impl Scope {
    /// Appends to this scope's chain, when the transaction commits. Without its audit event, the
    /// change is not committed.
    pub fn append_audit(&mut self, entry: AuditEntry) {
        self.audit.push(entry);
    }

    pub(super) async fn flush_audit(&mut self) -> Result<(), StoreError> {
        for entry in std::mem::take(&mut self.audit) {
            self.write_audit(entry).await?;
        }
        Ok(())
    }

    /// One statement, because the head of the chain is held from here to the end of the commit.
    async fn write_audit(&mut self, entry: AuditEntry) -> Result<(), StoreError> {
        let programs = entry.evidence.programs.clone();
        let event = event(entry, self.owner.clone())?;
        let Pieces { before_previous, chain, rest } = event.pieces();
        let detail = event.detail.as_ref();
        sqlx::query(
            "WITH head AS (
                 SELECT new_seq, new_time_us, new_hash FROM advance_audit_head($1, $2, $3, $4, $5)
             ), found_by AS (
                 INSERT INTO audit_terms (chain, term, seq)
                 SELECT $1, unnest($28::text[]), new_seq FROM head
             )
             INSERT INTO audit_events (chain, seq, time_us, hash, role, token_id, action, object,
                 session_id, exec_id, outcome, decision, rules, policy_version, approver,
                 sandbox_id, sandbox_generation, image_digest, detail_sha256, salt, actor, address,
                 reasons, stdout_sha256, stderr_sha256, data)
             SELECT $1, new_seq, new_time_us, new_hash, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                    $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27
             FROM head",
        )
        .bind(&event.chain)
        .bind(GENESIS.as_slice())
        .bind(before_previous)
        .bind(chain)
        .bind(rest)
        .bind(&event.role)
        .bind(&event.token_id)
        .bind(&event.action)
        .bind(&event.object)
        .bind(&event.session_id)
        .bind(&event.exec_id)
        .bind(&event.outcome)
        .bind(event.decision.as_ref().map(|it| &it.outcome))
        .bind(event.decision.as_ref().map(|it| &it.rules))
        .bind(event.decision.as_ref().and_then(|it| it.policy_version))
        .bind(event.decision.as_ref().and_then(|it| it.approver.as_ref()))
        .bind(event.sandbox.as_ref().map(|it| &it.id))
        .bind(event.sandbox.as_ref().map(|it| it.generation))
        .bind(event.sandbox.as_ref().and_then(|it| it.image_digest.as_ref()))
        .bind(event.detail_sha256.as_slice())
        .bind(detail.map(|it| it.salt.to_vec()))
        .bind(detail.map(|it| &it.actor))
        .bind(detail.and_then(|it| it.address.as_ref()))
        .bind(detail.map(|it| &it.reasons))
        .bind(detail.and_then(|it| it.stdout_sha256.map(Vec::from)))
        .bind(detail.and_then(|it| it.stderr_sha256.map(Vec::from)))
        .bind(detail.map(|it| &it.data))
        .bind(audit_terms::of_event(&event, &programs))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The token of the human who decided an approval, as the audit log knows it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_approver(&mut self, approval_id: &str) -> Result<Option<String>, StoreError> {
        let chain = self.owner.clone();
        let found: Option<(Option<String>,)> = sqlx::query_as(
            "SELECT token_id FROM audit_events
             WHERE chain = $1 AND object = $2 AND action = 'approval.decide'
             ORDER BY seq DESC LIMIT 1",
        )
        .bind(chain)
        .bind(approval_id)
        .fetch_optional(self.connection())
        .await?;
        Ok(found.and_then(|(token_id,)| token_id))
    }
}

/// Its number, time and hash are the head's matter.
fn event(entry: AuditEntry, chain: String) -> Result<Event, StoreError> {
    let evidence = entry.evidence;
    let mut salt = Salt::default();
    getrandom::fill(&mut salt).map_err(|_| StoreError::Random)?;
    let digest = |text: Option<String>| text.and_then(|text| audit::hex::decode(&text));
    let detail = Detail {
        salt,
        actor: entry.actor,
        address: entry.address,
        reasons: evidence.reasons,
        stdout_sha256: digest(evidence.stdout_sha256),
        stderr_sha256: digest(evidence.stderr_sha256),
        data: entry.detail.to_string(),
    };
    let of_object = || entry.object.parse::<ExecId>().ok();
    let sandbox = evidence.sandbox.map(|sandbox| Sandbox {
        id: sandbox.id.to_string(),
        generation: sandbox.generation.into(),
        image_digest: evidence.image_digest,
    });
    Ok(Event {
        chain,
        seq: 0,
        time_us: 0,
        role: entry.role.into(),
        token_id: entry.token_id.map(|id| id.to_string()),
        action: entry.action.into(),
        session_id: entry.session_id.map(|id| id.to_string()),
        exec_id: entry.exec_id.or_else(of_object).map(|id| id.to_string()),
        object: entry.object,
        outcome: entry.outcome.into(),
        decision: evidence.decision,
        sandbox,
        detail_sha256: detail.digest(),
        detail: Some(detail),
    })
}
