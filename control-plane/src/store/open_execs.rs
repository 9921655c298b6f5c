//! Execs that are not over, as those look for them who have to see to their end.

use domain::ids::{ExecId, SessionId, TurnId};

use super::error::parsed;
use super::{Scope, StoreError};

impl Scope {
    /// Ids of the execs of a session, or of one turn of it, that are not over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_open_execs(
        &mut self,
        session_id: SessionId,
        turn_id: Option<TurnId>,
    ) -> Result<Vec<ExecId>, StoreError> {
        let owner = self.owner.clone();
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM execs WHERE tenant_id = $1 AND session_id = $2
               AND finished_at IS NULL AND ($3::text IS NULL OR turn_id = $3) ORDER BY id",
        )
        .bind(owner)
        .bind(session_id.to_string())
        .bind(turn_id.map(|id| id.to_string()))
        .fetch_all(self.connection())
        .await?;
        parsed(ids.iter().map(|id| id.parse().ok()).collect(), "open execs")
    }

    /// Execs that were handed to executors that are gone while others are there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_stranded_execs(
        &mut self,
        gone_after_s: f64,
    ) -> Result<Vec<ExecId>, StoreError> {
        let owner = self.owner.clone();
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT execs.id FROM execs
             JOIN sessions ON sessions.tenant_id = execs.tenant_id
                          AND sessions.id = execs.session_id
             JOIN executors ON executors.tenant_id = sessions.tenant_id
                           AND executors.id = coalesce(execs.executor_id, sessions.executor_id)
             WHERE execs.tenant_id = $1 AND execs.finished_at IS NULL
               AND execs.state IN ('queued', 'running') AND execs.decision IS NOT NULL
               AND executors.last_seen_at <= now() - make_interval(secs => $2)
               AND EXISTS (SELECT FROM executors live
                           WHERE live.tenant_id = $1
                             AND live.last_seen_at > now() - make_interval(secs => $2))
             ORDER BY execs.id LIMIT 1000",
        )
        .bind(owner)
        .bind(gone_after_s)
        .fetch_all(self.connection())
        .await?;
        parsed(ids.iter().map(|id| id.parse().ok()).collect(), "stranded execs")
    }

    /// Execs that were allowed by a version of the policy before `version` and are not known to have
    /// started, oldest first, behind `after`: at most 1000.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_overtaken_execs(
        &mut self,
        version: i64,
        after: Option<ExecId>,
    ) -> Result<Vec<(SessionId, ExecId)>, StoreError> {
        let owner = self.owner.clone();
        let ids: Vec<(String, String)> = sqlx::query_as(
            "SELECT session_id, id FROM execs
             WHERE tenant_id = $1 AND finished_at IS NULL AND state = 'queued'
               AND NOT cancel_requested AND decision ->> 'outcome' = 'allow'
               AND (decision ->> 'policy_version')::bigint < $2 AND id > $3
             ORDER BY id LIMIT 1000",
        )
        .bind(owner)
        .bind(version)
        .bind(after.map_or_else(|| "exe_".to_owned(), |id| id.to_string()))
        .fetch_all(self.connection())
        .await?;
        let pair =
            |(session, id): &(String, String)| Some((session.parse().ok()?, id.parse().ok()?));
        parsed(ids.iter().map(pair).collect(), "overtaken execs")
    }

    /// How many turns and execs of a session are not over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_open_work(&mut self, session_id: SessionId) -> Result<i64, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM execs
                     WHERE tenant_id = $1 AND session_id = $2 AND finished_at IS NULL)
                  + (SELECT count(*) FROM turns
                     WHERE tenant_id = $1 AND session_id = $2 AND finished_at IS NULL)",
        )
        .bind(owner)
        .bind(session_id.to_string())
        .fetch_one(self.connection())
        .await?)
    }
}
