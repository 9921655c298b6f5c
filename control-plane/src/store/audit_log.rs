//! Appends to a chain of the audit log.
//!
//! Writing holds the chain's head until the transaction ends: numbers have no gaps, because a
//! transaction that fails gives its number back.

use audit::{Detail, Event, Pieces, Salt, Sandbox};
use domain::ids::{ApprovalId, ExecId, SessionId};
use sqlx::AssertSqlSafe;

use super::literal::{self, Record};
use super::{AuditEntry, Scope, StoreError, audit_terms};

impl Scope {
    /// Appends to this scope's chain, when the transaction commits. Without its audit event, the
    /// change is not committed.
    pub fn append_audit(&mut self, entry: AuditEntry) {
        self.audit.push(entry);
    }

    /// Appends what this scope has to append to its chain, and `then` ends the text: the head of the
    /// chain is held from here to the end of the commit, so both go to the server at once.
    pub(super) async fn write_audit(&mut self, then: &str) -> Result<(), StoreError> {
        let mut text = String::new();
        for entry in std::mem::take(&mut self.audit) {
            let call = call(entry, self.owner.clone())?;
            text.push_str(&format!("SELECT append_audit({call});"));
        }
        if text.is_empty() {
            return Ok(());
        }
        text.push_str(then);
        let _turn = self.turnstile.enter(&self.owner).await?;
        sqlx::raw_sql(AssertSqlSafe(text)).execute(self.connection()).await?;
        Ok(())
    }

    /// The token of the human who decided an approval in a session, as the audit log knows it: of
    /// several, the last one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_approver(
        &mut self,
        session_id: SessionId,
        approval_id: ApprovalId,
    ) -> Result<Option<String>, StoreError> {
        let chain = self.owner.clone();
        let found: Option<(Option<String>,)> = sqlx::query_as(
            "SELECT token_id FROM audit_events
             WHERE chain = $1 AND session_id = $2 AND object = $3
               AND action IN ('approval.decide', 'approval.vote')
             ORDER BY seq DESC LIMIT 1",
        )
        .bind(chain)
        .bind(session_id.to_string())
        .bind(approval_id.to_string())
        .fetch_optional(self.connection())
        .await?;
        Ok(found.and_then(|(token_id,)| token_id))
    }
}

/// The arguments of the database's `append_audit`, in its order.
fn call(entry: AuditEntry, chain: String) -> Result<String, StoreError> {
    let event = event(entry, chain)?;
    let detail = event.detail.as_ref().ok_or(StoreError::Inconsistent("audit detail"))?;
    let (decision, sandbox) = (event.decision.as_ref(), event.sandbox.as_ref());
    let mut to = Record::default();
    to.text(&event.role).optional_text(event.token_id.as_deref());
    to.text(&event.action).text(&event.object);
    to.optional_text(event.session_id.as_deref()).optional_text(event.exec_id.as_deref());
    to.text(&event.outcome).optional_text(decision.map(|it| &*it.outcome));
    match decision {
        Some(decision) => to.texts(&decision.rules),
        None => to.null(),
    };
    to.optional_number(decision.and_then(|it| it.policy_version));
    to.optional_text(decision.and_then(|it| it.approver.as_deref()));
    to.optional_text(sandbox.map(|it| &*it.id)).optional_number(sandbox.map(|it| it.generation));
    to.optional_text(sandbox.and_then(|it| it.image_digest.as_deref()));
    to.bytes(&event.detail_sha256).bytes(&detail.salt).text(&detail.actor);
    to.optional_text(detail.address.as_deref()).texts(&detail.reasons);
    to.optional_bytes(detail.stdout_sha256.as_ref().map(|it| &it[..]));
    to.optional_bytes(detail.stderr_sha256.as_ref().map(|it| &it[..]));
    to.text(&detail.data);
    let entry = to.finish().ok_or(StoreError::Inconsistent("audit text"))?;
    let Pieces { before_previous, chain, rest } = event.pieces();
    let [before, chain, rest] = [before_previous, chain, rest].map(|it| literal::bytes(&it));
    Ok(format!("{entry},{before},{chain},{rest}"))
}

/// Its number, time and hash are the head's matter.
fn event(entry: AuditEntry, chain: String) -> Result<Event, StoreError> {
    let evidence = entry.evidence;
    let data = audit_terms::with_programs(entry.detail, evidence.programs);
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
        data: data.to_string(),
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
