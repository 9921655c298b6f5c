//! Audit events as they are stored: all of them for an export, some of them for a reader.

use audit::{Decision, Detail, Event, Hash, Sandbox};
use sqlx::FromRow;

use super::{Scope, StoreError, audit_terms};

const COLUMNS: &str = "e.chain, e.seq, e.time_us, e.role, e.token_id, e.action, e.object, \
    e.session_id, e.exec_id, e.outcome, e.decision, e.rules, e.policy_version, e.approver, \
    e.sandbox_id, e.sandbox_generation, e.image_digest, e.detail_sha256, e.salt, e.actor, \
    e.address, e.reasons, e.stdout_sha256, e.stderr_sha256, e.data, e.hash";

/// An event, and the hash that was stored with it.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// The event.
    pub event: Event,
    /// Its hash.
    pub hash: Hash,
}

/// Which events. What is left out does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Not before this time, in microseconds since the epoch.
    pub since_us: Option<i64>,
    /// Before this time.
    pub until_us: Option<i64>,
    /// The actor, as events name it.
    pub actor: Option<String>,
    /// The action.
    pub action: Option<String>,
    /// The object.
    pub object: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// The exec.
    pub exec_id: Option<String>,
    /// The outcome.
    pub outcome: Option<String>,
    /// What was decided.
    pub decision: Option<String>,
    /// The id of a rule that decided.
    pub rule: Option<String>,
    /// A program that was to run.
    pub program: Option<String>,
    /// Words that the event must have, all of them.
    pub text: Option<String>,
}

impl AuditFilter {
    fn terms(&self) -> Vec<String> {
        let mut terms: Vec<String> =
            self.text.iter().flat_map(|text| audit_terms::of_query(text)).collect();
        terms.extend(self.rule.iter().map(|rule| audit_terms::of_rule(rule)));
        terms.extend(self.program.iter().map(|program| audit_terms::of_program(program)));
        terms
    }
}

impl Scope {
    /// Events of this scope's chain after `after` that pass `filter`, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_audit(
        &mut self,
        filter: &AuditFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let terms = filter.terms();
        // Only the conditions that are there, so that the planner sees which index serves them.
        let mut query = sqlx::QueryBuilder::<sqlx::Postgres>::new("SELECT ");
        query.push(COLUMNS).push(" FROM audit_events e WHERE e.chain = ");
        query.push_bind(self.owner.clone()).push(" AND e.seq > ").push_bind(after);
        let equal = [
            ("actor", &filter.actor),
            ("action", &filter.action),
            ("object", &filter.object),
            ("session_id", &filter.session_id),
            ("exec_id", &filter.exec_id),
            ("outcome", &filter.outcome),
            ("decision", &filter.decision),
        ];
        for (column, value) in equal {
            if let Some(value) = value {
                query.push(format_args!(" AND e.{column} = ")).push_bind(value);
            }
        }
        // Times are in the order of the numbers, which the index of the page is on.
        for (bound, time_us) in [(" >= ", filter.since_us), (" < ", filter.until_us)] {
            let Some(time_us) = time_us else { continue };
            query.push(" AND e.time_us").push(bound).push_bind(time_us);
            query.push(" AND e.seq").push(bound);
            query.push("coalesce((SELECT s.seq FROM audit_events s WHERE s.chain = ");
            query.push_bind(self.owner.clone()).push(" AND s.time_us >= ").push_bind(time_us);
            query.push(" ORDER BY s.time_us, s.seq LIMIT 1), 9223372036854775807)");
        }
        for term in terms {
            query.push(" AND EXISTS (SELECT FROM audit_terms t WHERE t.chain = e.chain");
            query.push(" AND t.seq = e.seq AND t.term = ").push_bind(term).push(")");
        }
        query.push(" ORDER BY e.seq LIMIT ").push_bind(limit);
        let rows: Vec<Row> = query.build_query_as().fetch_all(self.connection()).await?;
        rows.into_iter().map(AuditRecord::try_from).collect()
    }

    /// The event with this number.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope's chain has none.
    pub async fn get_audit(&mut self, seq: i64) -> Result<AuditRecord, StoreError> {
        let before = seq.saturating_sub(1);
        let found = self.list_audit(&AuditFilter::default(), before, 1).await?;
        let found = found.into_iter().find(|record| record.event.seq == seq);
        found.ok_or(StoreError::NotFound)
    }
}

#[derive(FromRow)]
struct Row {
    chain: String,
    seq: i64,
    time_us: i64,
    role: String,
    token_id: Option<String>,
    action: String,
    object: String,
    session_id: Option<String>,
    exec_id: Option<String>,
    outcome: String,
    decision: Option<String>,
    rules: Option<Vec<String>>,
    policy_version: Option<i64>,
    approver: Option<String>,
    sandbox_id: Option<String>,
    sandbox_generation: Option<i64>,
    image_digest: Option<String>,
    detail_sha256: Vec<u8>,
    salt: Option<Vec<u8>>,
    actor: Option<String>,
    address: Option<String>,
    reasons: Option<Vec<String>>,
    stdout_sha256: Option<Vec<u8>>,
    stderr_sha256: Option<Vec<u8>>,
    data: Option<String>,
    hash: Vec<u8>,
}

impl TryFrom<Row> for AuditRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let hash = bytes(row.hash)?;
        let detail = match row.salt {
            None => None,
            Some(salt) => Some(Detail {
                salt: bytes(salt)?,
                actor: row.actor.unwrap_or_default(),
                address: row.address,
                reasons: row.reasons.unwrap_or_default(),
                stdout_sha256: row.stdout_sha256.map(bytes).transpose()?,
                stderr_sha256: row.stderr_sha256.map(bytes).transpose()?,
                data: row.data.unwrap_or_default(),
            }),
        };
        let (approver, policy_version) = (row.approver, row.policy_version);
        let rules = row.rules.unwrap_or_default();
        let decision =
            row.decision.map(|outcome| Decision { outcome, rules, policy_version, approver });
        let (generation, image_digest) = (row.sandbox_generation, row.image_digest);
        let sandbox = row.sandbox_id.map(|id| Sandbox {
            id,
            generation: generation.unwrap_or_default(),
            image_digest,
        });
        let event = Event {
            chain: row.chain,
            seq: row.seq,
            time_us: row.time_us,
            role: row.role,
            token_id: row.token_id,
            action: row.action,
            object: row.object,
            session_id: row.session_id,
            exec_id: row.exec_id,
            outcome: row.outcome,
            decision,
            sandbox,
            detail_sha256: bytes(row.detail_sha256)?,
            detail,
        };
        Ok(Self { event, hash })
    }
}

pub(super) fn bytes<const N: usize>(stored: Vec<u8>) -> Result<[u8; N], StoreError> {
    stored.try_into().map_err(|_| StoreError::Inconsistent("audit bytes"))
}
