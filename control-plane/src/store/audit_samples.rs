//! Execs that were drawn for review when policy allowed them, and what came of it.

use domain::exec::ExecState;
use domain::ids::{ExecId, SessionId, TokenId};
use sqlx::FromRow;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::error::parsed;
use super::{RecordedDecision, Scope, StoreError};

/// An exec that waits for its review.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The exec.
    pub exec_id: ExecId,
    /// The audit event that permitted it.
    pub seq: i64,
    /// Its session.
    pub session_id: SessionId,
    /// Where it stands.
    pub state: ExecState,
    /// The script, or the text of a tool's call.
    pub command: String,
    /// Where it runs.
    pub cwd: String,
    /// The token that asked for it.
    pub requested_by: TokenId,
    /// Why it was allowed.
    pub decision: RecordedDecision,
    /// The sampling rule that drew it.
    pub rule: String,
    /// When it was drawn.
    pub sampled_at: OffsetDateTime,
}

/// In which order, and after which exec.
#[derive(Debug, Clone, Copy)]
pub enum SampleOrder {
    /// The longest waiting first.
    OldestFirst(Option<ExecId>),
    /// The shortest waiting first.
    NewestFirst(Option<ExecId>),
}

/// What came of reviews, of the execs that were asked for within some time.
#[derive(Debug, Clone, Default, FromRow)]
pub struct ReviewFigures {
    /// Execs that were decided about.
    pub decided: i64,
    /// Those of them that policy allowed by itself.
    pub auto_approved: i64,
    /// Those of the latter that somebody reviewed.
    pub reviewed: i64,
    /// Those of the reviewed whose last verdict was another than `ok`.
    pub overturned: i64,
    /// Execs that were drawn, and about which nobody else decided after all.
    pub sampled: i64,
    /// Those of them that still wait for a review.
    pub waiting: i64,
    /// Median of the seconds from drawing to first review.
    pub median_s: Option<f64>,
    /// 95th percentile of the same.
    pub p95_s: Option<f64>,
}

#[derive(FromRow)]
struct Row {
    exec_id: String,
    seq: i64,
    session_id: String,
    state: String,
    command: String,
    cwd: String,
    created_by: String,
    decision: Json<RecordedDecision>,
    rule: String,
    sampled_at: OffsetDateTime,
}

impl TryFrom<Row> for Sample {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            exec_id: parsed(row.exec_id.parse().ok(), "sample exec")?,
            seq: row.seq,
            session_id: parsed(row.session_id.parse().ok(), "sample session")?,
            state: parsed(ExecState::from_name(&row.state), "exec state")?,
            command: row.command,
            cwd: row.cwd,
            requested_by: parsed(row.created_by.parse().ok(), "exec creator")?,
            decision: row.decision.0,
            rule: row.rule,
            sampled_at: row.sampled_at,
        })
    }
}

impl Scope {
    /// Puts an exec into the queue of reviews; one that is there stays as it is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_sample(&mut self, id: ExecId, rule: &str) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO audit_samples (tenant_id, exec_id, rule) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(rule)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Takes an exec out of the queue of reviews.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_sample_reviewed(&mut self, id: ExecId) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE audit_samples SET reviewed_at = now()
             WHERE tenant_id = $1 AND exec_id = $2 AND reviewed_at IS NULL",
        )
        .bind(owner)
        .bind(id.to_string())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Execs that wait for a review. Those about which somebody else decided after all are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_samples(
        &mut self,
        order: SampleOrder,
        limit: i64,
    ) -> Result<Vec<Sample>, StoreError> {
        // Ids sort by the time of their making; all of them are between these two.
        let (after, before, direction) = match order {
            SampleOrder::OldestFirst(after) => (after, None, "ASC"),
            SampleOrder::NewestFirst(before) => (None, before, "DESC"),
        };
        let text = |id: Option<ExecId>, default: &str| {
            id.map_or_else(|| default.to_owned(), |id| id.to_string())
        };
        let owner = self.owner.clone();
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT s.exec_id, a.seq, e.session_id, e.state, e.command, e.cwd, e.created_by,
                    e.decision, s.rule, s.sampled_at
             FROM audit_samples s
             JOIN execs e ON e.tenant_id = s.tenant_id AND e.id = s.exec_id
             JOIN LATERAL (SELECT max(seq) AS seq FROM audit_events
                           WHERE chain = $1 AND exec_id = s.exec_id
                             AND action = 'exec.authorize' AND outcome = 'allow') a
                 ON a.seq IS NOT NULL
             WHERE s.tenant_id = $1 AND s.reviewed_at IS NULL
               AND s.exec_id > $2 AND s.exec_id < $3
               AND e.decision->>'decided_by' = 'policy' AND e.decision->>'outcome' = 'allow'
             ORDER BY s.exec_id {direction} LIMIT $4"
        )))
        .bind(owner)
        .bind(text(after, "exe_"))
        .bind(text(before, "exf"))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(Sample::try_from).collect()
    }

    /// What came of reviews, of the execs that were asked for since then and before the other time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_reviews(
        &mut self,
        since: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<ReviewFigures, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_as(
            "WITH decided AS (
                 SELECT id, decision->>'decided_by' = 'policy'
                            AND decision->>'outcome' = 'allow' AS auto
                 FROM execs
                 WHERE tenant_id = $1 AND id >= $2 AND id < $3 AND decision IS NOT NULL
             ), verdicts AS (
                 SELECT DISTINCT ON (exec_id) exec_id, verdict
                 FROM audit_reviews
                 WHERE tenant_id = $1 AND exec_id >= $2 AND exec_id < $3
                 ORDER BY exec_id, id DESC
             ), samples AS (
                 SELECT reviewed_at, extract(epoch FROM reviewed_at - sampled_at)::float8 AS took_s
                 FROM audit_samples JOIN decided ON id = exec_id AND auto
                 WHERE tenant_id = $1 AND exec_id >= $2 AND exec_id < $3
             )
             SELECT d.decided, d.auto_approved, d.reviewed, d.overturned,
                    s.sampled, s.waiting, s.median_s, s.p95_s
             FROM (SELECT count(*) AS decided, count(*) FILTER (WHERE auto) AS auto_approved,
                          count(*) FILTER (WHERE auto AND verdict IS NOT NULL) AS reviewed,
                          count(*) FILTER (WHERE auto AND verdict <> 'ok') AS overturned
                   FROM decided LEFT JOIN verdicts ON exec_id = id) d,
                  (SELECT count(*) AS sampled,
                          count(*) FILTER (WHERE reviewed_at IS NULL) AS waiting,
                          percentile_cont(0.5) WITHIN GROUP (ORDER BY took_s) AS median_s,
                          percentile_cont(0.95) WITHIN GROUP (ORDER BY took_s) AS p95_s
                   FROM samples) s",
        )
        .bind(owner)
        .bind(first_exec_of(since))
        .bind(first_exec_of(until))
        .fetch_one(self.connection())
        .await?)
    }
}

/// What sorts before every exec of a time and after all earlier ones: an id begins with the
/// milliseconds since the epoch.
fn first_exec_of(time: OffsetDateTime) -> String {
    let ms = (time.unix_timestamp_nanos() / 1_000_000).clamp(0, (1 << 48) - 1);
    format!("{}{ms:012x}", ExecId::PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_lies_between_the_seconds_of_its_making() {
        let now = OffsetDateTime::now_utc();
        let id: ExecId = crate::ids::new();
        let id = id.to_string();
        let second = time::Duration::SECOND;
        assert!(first_exec_of(now - second) < id && id < first_exec_of(now + second), "{id}");
    }

    #[test]
    fn times_that_no_id_has_are_the_ends() {
        let before = OffsetDateTime::from_unix_timestamp(-5).expect("a time");
        assert_eq!(first_exec_of(before), "exe_000000000000");
    }
}
