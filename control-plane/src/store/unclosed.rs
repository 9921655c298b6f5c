//! What should have an end on record and has none: permitted execs whose time is long over, ones that
//! nobody decides about any more, ended ones without their closing audit event, and turns whose agent
//! is gone.

use std::str::FromStr;

use domain::ids::{ExecId, TurnId};
use sqlx::AssertSqlSafe;
use time::OffsetDateTime;

use super::error::parsed;
use super::execs::Row;
use super::{Exec, Scope, StoreError, Turn};

/// An exec whose time is over by more than `$2` seconds. That of one that was permitted is counted
/// from its start if that is known, and never from before its decision: an executor's clock may be
/// wrong. That of any other begins when it is its turn, once its question has expired, and when
/// its workflow last said what it waits for. Behind one that was closed in this
/// way a workflow that lives is quick to decide, so of the `$2` seconds only a twenty-fourth is waited.
const OVERDUE: &str = "tenant_id = $1 AND finished_at IS NULL
    AND created_at < now() - make_interval(secs => $2 + timeout_ms / 1000.0)
    AND CASE WHEN decision->>'outcome' = 'allow' AND state IN ('queued', 'running')
        THEN greatest(started_at, decided_at, created_at)
        ELSE (
            SELECT greatest(execs.created_at, execs.decided_at, execs.waited_at,
                max(other.finished_at
                    - CASE WHEN other.error->>'code' = 'outcome_unknown'
                      THEN make_interval(secs => $2 * 23 / 24) ELSE interval '0' END)
                    FILTER (WHERE other.created_at < execs.created_at),
                (SELECT max(expires_at) FROM approvals
                 WHERE approvals.tenant_id = $1 AND approvals.id = execs.approval_id))
            FROM execs other
            WHERE other.tenant_id = $1 AND other.session_id = execs.session_id
            HAVING (execs.waiting_reason IS NULL OR execs.waited_at IS NOT NULL)
                AND count(*) FILTER (WHERE other.finished_at IS NULL
                                     AND other.created_at < execs.created_at) = 0)
        END < now() - make_interval(secs => $2 + timeout_ms / 1000.0)";

/// A turn of whose agent there has been no sign for `$2` seconds since it was its turn: no exec of its
/// session is open or ended since, and no other turn.
const OVERDUE_TURN: &str = "tenant_id = $1 AND finished_at IS NULL
    AND created_at < now() - make_interval(secs => $2)
    AND NOT EXISTS (
        SELECT FROM execs e WHERE e.tenant_id = $1 AND e.session_id = turns.session_id
            AND (e.finished_at IS NULL OR e.finished_at > now() - make_interval(secs => $2)))
    AND NOT EXISTS (
        SELECT FROM turns other WHERE other.tenant_id = $1 AND other.session_id = turns.session_id
            AND (other.finished_at > now() - make_interval(secs => $2)
                 OR other.finished_at IS NULL AND other.created_at < turns.created_at))";

/// An exec that ended without its event.
const UNRECORDED: &str = "tenant_id = $1 AND finished_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM audit_events a
                    WHERE a.chain = $1 AND a.exec_id = execs.id AND a.action = 'exec.finish')";

/// One step through the execs that ended.
#[derive(Debug)]
pub struct EndedPage {
    /// Those of them without a closing audit event.
    pub unrecorded: Vec<ExecId>,
    /// The end of the last one.
    pub last: Option<OffsetDateTime>,
    /// How many there were.
    pub length: usize,
}

impl Scope {
    /// Execs whose time is over by more than `patience_s` seconds.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_overdue_execs(
        &mut self,
        patience_s: f64,
        limit: i64,
    ) -> Result<Vec<ExecId>, StoreError> {
        self.list_overdue("execs", OVERDUE, patience_s, limit).await
    }

    async fn list_overdue<T: FromStr>(
        &mut self,
        table: &'static str,
        overdue: &'static str,
        patience_s: f64,
        limit: i64,
    ) -> Result<Vec<T>, StoreError> {
        let owner = self.owner.clone();
        let sql = format!("SELECT id FROM {table} WHERE {overdue} ORDER BY id LIMIT $3");
        let ids: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(owner)
            .bind(patience_s)
            .bind(limit)
            .fetch_all(self.connection())
            .await?;
        parsed(ids.iter().map(|id| id.parse().ok()).collect(), "what is overdue")
    }

    /// The exec, if it is still overdue and nobody else holds its row. Holds it until the transaction
    /// ends.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_overdue_exec(
        &mut self,
        id: ExecId,
        patience_s: f64,
    ) -> Result<Option<Exec>, StoreError> {
        let owner = self.owner.clone();
        let sql = format!("SELECT * FROM execs WHERE {OVERDUE} AND id = $3 FOR UPDATE SKIP LOCKED");
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(owner)
            .bind(patience_s)
            .bind(id.to_string())
            .fetch_optional(self.connection())
            .await?;
        row.map(Exec::try_from).transpose()
    }

    /// Turns that nobody has told anything of for more than `patience_s` seconds.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_overdue_turns(
        &mut self,
        patience_s: f64,
        limit: i64,
    ) -> Result<Vec<TurnId>, StoreError> {
        self.list_overdue("turns", OVERDUE_TURN, patience_s, limit).await
    }

    /// The turn, if it is still overdue and nobody else holds its row. Holds it until the transaction
    /// ends.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_overdue_turn(
        &mut self,
        id: TurnId,
        patience_s: f64,
    ) -> Result<Option<Turn>, StoreError> {
        let owner = self.owner.clone();
        let sql =
            format!("SELECT id FROM turns WHERE {OVERDUE_TURN} AND id = $3 FOR UPDATE SKIP LOCKED");
        let found: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(owner)
            .bind(patience_s)
            .bind(id.to_string())
            .fetch_optional(self.connection())
            .await?;
        match found {
            Some(_) => Ok(Some(self.get_turn(id).await?)),
            None => Ok(None),
        }
    }

    /// Looks through at most `limit` execs that ended at that time or later, in this order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_unrecorded_ends(
        &mut self,
        from: OffsetDateTime,
        limit: i64,
    ) -> Result<EndedPage, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<(String, OffsetDateTime, bool)> = sqlx::query_as(
            "SELECT e.id, e.finished_at,
                    EXISTS (SELECT FROM audit_events a
                            WHERE a.chain = $1 AND a.exec_id = e.id AND a.action = 'exec.finish')
             FROM execs e WHERE e.tenant_id = $1 AND e.finished_at >= $2
             ORDER BY e.finished_at LIMIT $3",
        )
        .bind(owner)
        .bind(from)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        let (last, length) = (rows.last().map(|(_, at, _)| *at), rows.len());
        let unrecorded = rows.iter().filter(|(.., is_recorded)| !is_recorded);
        let unrecorded = unrecorded.map(|(id, ..)| id.parse().ok()).collect();
        Ok(EndedPage { unrecorded: parsed(unrecorded, "ended execs")?, last, length })
    }

    /// The exec, if its end is still without its event and nobody else holds its row. Holds it until
    /// the transaction ends.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_unrecorded_end(&mut self, id: ExecId) -> Result<Option<Exec>, StoreError> {
        let owner = self.owner.clone();
        // Two statements: the second one sees what the holder before us committed.
        let held: Option<String> = sqlx::query_scalar(
            "SELECT id FROM execs WHERE tenant_id = $1 AND id = $2 FOR UPDATE SKIP LOCKED",
        )
        .bind(&owner)
        .bind(id.to_string())
        .fetch_optional(self.connection())
        .await?;
        if held.is_none() {
            return Ok(None);
        }
        let sql = format!("SELECT * FROM execs WHERE {UNRECORDED} AND id = $2");
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(owner)
            .bind(id.to_string())
            .fetch_optional(self.connection())
            .await?;
        row.map(Exec::try_from).transpose()
    }
}
