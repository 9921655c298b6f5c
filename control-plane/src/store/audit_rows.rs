//! Audit events as they are stored: all of them for an export, some of them for a reader.

use super::audit_index::{BLOCK, before_block};
use super::audit_row::{AuditRecord, COLUMNS, Row};
use super::audit_search::Search;
use super::{Scope, StoreError, audit_terms};

/// Which events. What is left out does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
            return records(self.audit_rows(filter, &numbers, limit).await?);
        }
        let written = match self.last_audit_block().await? {
            Some(block) => before_block(block + 1).min(until),
            None => 0,
        };
        let mut found = Vec::new();
        if after < written && (filter.session_id.is_some() || filter.exec_id.is_some()) {
            let numbers = Numbers::BetweenWith(after, written, &content);
            found = self.audit_rows(filter, &numbers, limit).await?;
        } else if after < written {
            let mut search = Search::new(terms, after, written);
            while found.len() < wanted {
                let numbers = search.next(self, wanted - found.len()).await?;
                if numbers.is_empty() {
                    break;
                }
                let left = limit - found.len() as i64;
                found.extend(self.audit_rows(filter, &Numbers::These(numbers), left).await?);
            }
        }
        // What stands after the last written block has to be read.
        let mut after = after.max(written);
        while found.len() < wanted {
            let rows = self.audit_rows(filter, &Numbers::Between(after, until), BLOCK).await?;
            let (length, last) = (rows.len() as i64, rows.last().map(|row| row.seq));
            for row in rows {
                // One that cannot be read may be one that is looked for.
                let fits = content.is_empty()
                    || row.terms().is_none_or(|own| content.iter().all(|it| own.contains(it)));
                if found.len() < wanted && fits {
                    found.push(row);
                }
            }
            match last {
                Some(last) if length == BLOCK => after = last,
                _ => break,
            }
        }
        records(found)
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
    ) -> Result<Vec<Row>, StoreError> {
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
        Ok(query.build_query_as().fetch_all(self.connection()).await?)
    }

    /// How many events after `after`, of `limit` at most, have `bytes` of content together; one more
    /// if they have not quite as much, and one at least.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_audit_within(
        &mut self,
        after: i64,
        limit: i64,
        bytes: i64,
    ) -> Result<i64, StoreError> {
        let owner = self.owner.clone();
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (
                 SELECT sum(size) OVER (ORDER BY seq) - size AS before FROM (
                     SELECT seq, octet_length(action) + octet_length(object)
                         + coalesce(octet_length(data), 0) + coalesce(pg_column_size(reasons), 0)
                         + coalesce(pg_column_size(rules), 0) AS size
                     FROM audit_events WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3) next
             ) sums WHERE before < $4",
        )
        .bind(owner)
        .bind(after)
        .bind(limit)
        .bind(bytes)
        .fetch_one(self.connection())
        .await?;
        Ok(count.max(1))
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

fn records(rows: Vec<Row>) -> Result<Vec<AuditRecord>, StoreError> {
    rows.into_iter().map(Row::into_record).collect()
}

pub(super) fn bytes<const N: usize>(stored: Vec<u8>) -> Result<[u8; N], StoreError> {
    stored.try_into().map_err(|_| StoreError::Inconsistent("audit bytes"))
}
