//! Audit events as they are stored: all of them for an export, some of them for a reader.

use std::collections::BTreeSet;

use audit::{Decision, Detail, Event, Hash, Sandbox};
use sqlx::FromRow;

use super::audit_index::{BLOCK, before_block};
use super::audit_search::Search;
use super::{Scope, StoreError, audit_terms};

pub(super) const COLUMNS: &str = "e.chain, e.seq, e.time_us, e.role, e.token_id, e.action, e.object, \
    e.session_id, e.exec_id, e.outcome, e.decision, e.rules, e.policy_version, e.approver, \
    e.sandbox_id, e.sandbox_generation, e.image_digest, e.detail_sha256, e.salt, e.actor, \
    e.address, e.reasons, e.stdout_sha256, e.stderr_sha256, e.data, e.hash, e.programs";

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
    /// Fields that are found by terms, which only tell where to look.
    fn fields(&self) -> [(&'static str, &Option<String>); 5] {
        [
            ("actor", &self.actor),
            ("action", &self.action),
            ("object", &self.object),
            ("outcome", &self.outcome),
            ("decision", &self.decision),
        ]
    }

    fn field_terms(&self) -> Vec<String> {
        let given = self.fields().into_iter().filter_map(|(field, it)| Some((field, it.as_ref()?)));
        given.map(|(field, value)| audit_terms::of_field(field, value)).collect()
    }

    /// Terms that nothing but themselves stands for.
    fn content_terms(&self) -> Vec<String> {
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
        let wanted = usize::try_from(limit).unwrap_or_default();
        let (after, until) = self.within(filter, after).await?;
        let content = filter.content_terms();
        let mut terms = filter.field_terms();
        terms.extend(content.iter().cloned());
        if terms.is_empty() {
            let numbers = Numbers::Between(after, until);
            return self.audit_rows(filter, &numbers, limit).await?.into_records();
        }
        let written = match self.last_audit_block().await? {
            Some(block) => before_block(block + 1).min(until),
            None => 0,
        };
        let mut found = Rows::default();
        if after < written && (filter.session_id.is_some() || filter.exec_id.is_some()) {
            let numbers = Numbers::BetweenWith(after, written, &content);
            found = self.audit_rows(filter, &numbers, limit).await?;
        } else if after < written {
            let mut search = Search::new(terms, after, written);
            while found.0.len() < wanted {
                let numbers = search.next(self, wanted - found.0.len()).await?;
                if numbers.is_empty() {
                    break;
                }
                let left = limit - found.0.len() as i64;
                found.0.extend(self.audit_rows(filter, &Numbers::These(numbers), left).await?.0);
            }
        }
        // What stands after the last written block has to be read.
        let mut after = after.max(written);
        while found.0.len() < wanted {
            let rows = self.audit_rows(filter, &Numbers::Between(after, until), BLOCK).await?;
            let (length, last) = (rows.0.len() as i64, rows.0.last().map(|row| row.seq));
            for row in rows.0 {
                if found.0.len() < wanted && row.has_all(&content)? {
                    found.0.push(row);
                }
            }
            match last {
                Some(last) if length == BLOCK => after = last,
                _ => break,
            }
        }
        found.into_records()
    }

    /// After which number and up to which one a filter looks: times are in the order of the numbers.
    async fn within(&mut self, filter: &AuditFilter, after: i64) -> Result<(i64, i64), StoreError> {
        let since = match filter.since_us {
            Some(time_us) => self.first_audit_from(time_us).await?,
            None => 1,
        };
        let until = match filter.until_us {
            Some(time_us) => self.first_audit_from(time_us).await?,
            None => i64::MAX,
        };
        Ok((after.max(since - 1), until - 1))
    }

    /// The number of the first event of a time or later; the greatest if there is none.
    async fn first_audit_from(&mut self, time_us: i64) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT first_audit_from($1, $2)")
            .bind(self.owner.clone())
            .bind(time_us)
            .fetch_one(self.connection())
            .await?)
    }

    async fn audit_rows(
        &mut self,
        filter: &AuditFilter,
        numbers: &Numbers<'_>,
        limit: i64,
    ) -> Result<Rows, StoreError> {
        // Only the conditions that are there, so that the planner sees which index serves them.
        let mut query = sqlx::QueryBuilder::<sqlx::Postgres>::new("SELECT ");
        query.push(COLUMNS).push(" FROM audit_events e WHERE e.chain = ");
        query.push_bind(self.owner.clone());
        match numbers {
            Numbers::Between(after, until) | Numbers::BetweenWith(after, until, _) => {
                query.push(" AND e.seq > ").push_bind(*after);
                query.push(" AND e.seq <= ").push_bind(*until);
            }
            Numbers::These(numbers) => {
                query.push(" AND e.seq = ANY(").push_bind(numbers).push(")");
            }
        }
        if let Numbers::BetweenWith(_, _, terms) = numbers {
            for term in *terms {
                query.push(" AND EXISTS (SELECT FROM audit_terms t WHERE t.chain = e.chain");
                query.push(" AND t.block = (e.seq - 1) / ").push(BLOCK);
                query.push(" AND ((e.seq - 1) % ").push(BLOCK);
                query.push(")::smallint = ANY(t.places) AND t.term = ").push_bind(term).push(")");
            }
        }
        let own = [("session_id", &filter.session_id), ("exec_id", &filter.exec_id)];
        for (column, value) in filter.fields().into_iter().chain(own) {
            if let Some(value) = value {
                query.push(format_args!(" AND e.{column} = ")).push_bind(value);
            }
        }
        for (bound, time_us) in [(" >= ", filter.since_us), (" < ", filter.until_us)] {
            if let Some(time_us) = time_us {
                query.push(" AND e.time_us").push(bound).push_bind(time_us);
            }
        }
        query.push(" ORDER BY e.seq LIMIT ").push_bind(limit);
        Ok(Rows(query.build_query_as().fetch_all(self.connection()).await?))
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

/// Which numbers.
enum Numbers<'a> {
    /// After the first, up to the second.
    Between(i64, i64),
    /// Those of them with all of these terms, which are written.
    BetweenWith(i64, i64, &'a [String]),
    /// These.
    These(Vec<i64>),
}

#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn into_records(self) -> Result<Vec<AuditRecord>, StoreError> {
        self.0.into_iter().map(AuditRecord::try_from).collect()
    }
}

#[derive(Clone, FromRow)]
pub(super) struct Row {
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
    programs: Option<Vec<String>>,
}

impl Row {
    /// Everything that finds the event.
    pub(super) fn terms(mut self) -> Result<BTreeSet<String>, StoreError> {
        let programs = self.programs.take().unwrap_or_default();
        let record = AuditRecord::try_from(self)?;
        Ok(audit_terms::of_event(&record.event, &programs))
    }

    fn has_all(&self, terms: &[String]) -> Result<bool, StoreError> {
        if terms.is_empty() {
            return Ok(true);
        }
        let own = self.clone().terms()?;
        Ok(terms.iter().all(|term| own.contains(term)))
    }
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
