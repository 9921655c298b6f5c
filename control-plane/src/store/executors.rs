//! Executors that enrolled.

use domain::ids::{ExecId, ExecutorId, SessionId, TenantId};
use protocol::enrolment::EnrolRequest;
use sqlx::FromRow;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Scope, Store, StoreError};

/// Seconds without a word after which an executor does not count as live. It says that it lives
/// every five.
const SILENT_AFTER_S: f64 = 15.0;

/// An executor.
#[derive(Debug, Clone)]
pub struct Executor {
    /// Its id.
    pub id: ExecutorId,
    /// Version of its program.
    pub version: String,
    /// Name of its host.
    pub host: String,
    /// Digest of its image.
    pub image_digest: String,
    /// How well it isolates, from 0 to 3, if it said so.
    pub isolation_tier: Option<u8>,
    /// Processors of its host, if it said so.
    pub capacity: Option<u32>,
    /// Whether it was heard of lately.
    pub is_live: bool,
    /// When it was last heard of.
    pub last_seen_at: OffsetDateTime,
}

/// A session lost sight of its executor, or found it again.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    /// The session.
    pub session_id: SessionId,
    /// The executor that has its sandbox.
    pub executor_id: ExecutorId,
    /// Whether it is silent now.
    pub is_silent: bool,
}

#[derive(FromRow)]
struct Row {
    id: String,
    version: String,
    host: String,
    image_digest: String,
    isolation_tier: Option<String>,
    capacity: Option<i32>,
    is_live: bool,
    last_seen_at: OffsetDateTime,
}

impl TryFrom<Row> for Executor {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: parsed(row.id.parse().ok(), "executor id")?,
            version: row.version,
            host: row.host,
            image_digest: row.image_digest,
            isolation_tier: row.isolation_tier.and_then(|tier| tier.parse().ok()),
            capacity: row.capacity.and_then(|count| u32::try_from(count).ok()),
            is_live: row.is_live,
            last_seen_at: row.last_seen_at,
        })
    }
}

impl Scope {
    /// Adds an executor, or renews what is known of it. Gives its new epoch.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn upsert_executor(&mut self, executor: &EnrolRequest) -> Result<i64, StoreError> {
        let owner = self.owner.clone();
        let epoch = sqlx::query_scalar(
            "INSERT INTO executors (tenant_id, id, version, host, image_digest, isolation_tier,
                                    capacity, epoch)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1)
             ON CONFLICT (tenant_id, id) DO UPDATE
             SET version = excluded.version, host = excluded.host,
                 image_digest = excluded.image_digest,
                 isolation_tier = excluded.isolation_tier, capacity = excluded.capacity, last_seen_at = now(),
                 enrolled_at = now(), epoch = executors.epoch + 1
             RETURNING epoch",
        )
        .bind(owner)
        .bind(executor.executor_id.to_string())
        .bind(&executor.version)
        .bind(&executor.host)
        .bind(&executor.image_digest)
        .bind(executor.isolation_tier.map(|tier| tier.to_string()))
        .bind(executor.capacity.and_then(|count| i32::try_from(count).ok()))
        .fetch_one(self.connection())
        .await?;
        Ok(epoch)
    }

    /// How many executors but this one were heard of within a day.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_other_executors(&mut self, id: ExecutorId) -> Result<i64, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_scalar(
            "SELECT count(*) FROM executors
             WHERE tenant_id = $1 AND id <> $2 AND last_seen_at > now() - interval '1 day'",
        )
        .bind(owner)
        .bind(id.to_string())
        .fetch_one(self.connection())
        .await?)
    }

    /// Whether an executor of the tenant was heard of within the last `seconds`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn heard_of_executor(
        &mut self,
        id: ExecutorId,
        seconds: f64,
    ) -> Result<bool, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM executors WHERE tenant_id = $1 AND id = $2
                              AND last_seen_at > now() - make_interval(secs => $3))",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(seconds)
        .fetch_one(self.connection())
        .await?)
    }

    /// The executor that was heard of last, if that was within the last `seconds`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_executor(&mut self, seconds: f64) -> Result<Option<Executor>, StoreError> {
        let owner = self.owner.clone();
        let row: Option<Row> = sqlx::query_as(
            "SELECT id, version, host, image_digest, isolation_tier, capacity, true AS is_live,
                    last_seen_at
             FROM executors
             WHERE tenant_id = $1 AND last_seen_at > now() - make_interval(secs => $2)
             ORDER BY last_seen_at DESC, id DESC LIMIT 1",
        )
        .bind(owner)
        .bind(seconds)
        .fetch_optional(self.connection())
        .await?;
        row.map(Executor::try_from).transpose()
    }

    /// Notes that an executor is there. False when a later start of it, or nobody, is: whoever
    /// asks has to stop.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn touch_executor(&mut self, id: ExecutorId, epoch: u64) -> Result<bool, StoreError> {
        let owner = self.owner.clone();
        let touched = sqlx::query(
            "UPDATE executors SET last_seen_at = now()
             WHERE tenant_id = $1 AND id = $2 AND epoch = $3",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(i64::try_from(epoch).unwrap_or(i64::MAX))
        .execute(self.connection())
        .await?;
        Ok(touched.rows_affected() == 1)
    }

    /// Whether no later start of an executor has enrolled. Says nothing of whether it is there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_current_executor(
        &mut self,
        id: ExecutorId,
        epoch: u64,
    ) -> Result<bool, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM executors
                            WHERE tenant_id = $1 AND id = $2 AND epoch = $3)",
        )
        .bind(owner)
        .bind(id.to_string())
        .bind(i64::try_from(epoch).unwrap_or(i64::MAX))
        .fetch_one(self.connection())
        .await?)
    }

    /// Whether an exec is this executor's to speak of: it holds the session's sandbox, and no
    /// later start of it has enrolled.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_home_of(
        &mut self,
        exec_id: ExecId,
        executor: ExecutorId,
        epoch: u64,
    ) -> Result<bool, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (
                 SELECT FROM execs
                 JOIN sessions ON sessions.tenant_id = execs.tenant_id
                              AND sessions.id = execs.session_id
                 JOIN executors ON executors.tenant_id = sessions.tenant_id
                               AND executors.id = sessions.executor_id
                 WHERE execs.tenant_id = $1 AND execs.id = $2
                   AND executors.id = $3 AND executors.epoch = $4)",
        )
        .bind(owner)
        .bind(exec_id.to_string())
        .bind(executor.to_string())
        .bind(i64::try_from(epoch).unwrap_or(i64::MAX))
        .fetch_one(self.connection())
        .await?)
    }

    /// The tenant's executors, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_executors(
        &mut self,
        after: Option<ExecutorId>,
        limit: i64,
    ) -> Result<Vec<Executor>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, version, host, image_digest, isolation_tier, capacity,
                    last_seen_at > now() - make_interval(secs => $4) AS is_live, last_seen_at
             FROM executors
             WHERE tenant_id = $1 AND id > coalesce($2, '') ORDER BY id LIMIT $3",
        )
        .bind(owner)
        .bind(after.map(|id| id.to_string()))
        .bind(limit)
        .bind(SILENT_AFTER_S)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(Executor::try_from).collect()
    }

    /// Whether a session has lost sight of its executor.
    ///
    /// # Errors
    /// When the database fails, or there is no such session.
    pub async fn is_executor_silent(&mut self, session: SessionId) -> Result<bool, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_scalar(
            "SELECT executor_silent FROM sessions WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(session.to_string())
        .fetch_one(self.connection())
        .await?)
    }

    /// Notes which sessions have lost sight of their executor, or found it again; gives those, each
    /// once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_silent_executors(&mut self) -> Result<Vec<Sighting>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<(String, String, bool)> = sqlx::query_as(
            "UPDATE sessions SET executor_silent = NOT executor_silent
             FROM executors
             WHERE sessions.tenant_id = $1 AND executors.tenant_id = $1
               AND executors.id = sessions.executor_id AND sessions.state <> 'closed'
               AND sessions.executor_silent
                   <> (executors.last_seen_at < now() - make_interval(secs => $2))
             RETURNING sessions.id, executors.id, sessions.executor_silent",
        )
        .bind(owner)
        .bind(SILENT_AFTER_S)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter()
            .map(|(session_id, executor_id, is_silent)| {
                let session_id = parsed(session_id.parse().ok(), "session id")?;
                let executor_id = parsed(executor_id.parse().ok(), "executor id")?;
                Ok(Sighting { session_id, executor_id, is_silent })
            })
            .collect()
    }
}

/// What is seen of an executor that was there some time ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It goes on.
    Same,
    /// Nothing has been heard of it for a while.
    Silent,
    /// It was started again, or is gone for good.
    Over,
}

impl Store {
    /// What has become of an executor in the last `seconds`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn life_of_executor(
        &self,
        tenant_id: TenantId,
        id: ExecutorId,
        seconds: f64,
    ) -> Result<Life, StoreError> {
        let mut scope = self.tenant(tenant_id).await?;
        let seen: Option<(bool, bool)> = sqlx::query_as(
            "SELECT enrolled_at < now() - make_interval(secs => $3),
                    last_seen_at > now() - make_interval(secs => $4)
             FROM executors WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant_id.to_string())
        .bind(id.to_string())
        .bind(seconds)
        .bind(SILENT_AFTER_S)
        .fetch_optional(scope.connection())
        .await?;
        Ok(match seen {
            Some((true, true)) => Life::Same,
            Some((true, false)) => Life::Silent,
            Some((false, _)) | None => Life::Over,
        })
    }
}
