//! Executors that enrolled.

use domain::ids::ExecutorId;
use protocol::enrolment::EnrolRequest;
use sqlx::FromRow;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Scope, StoreError};

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
    /// When it was last heard of.
    pub last_seen_at: OffsetDateTime,
}

#[derive(FromRow)]
struct Row {
    id: String,
    version: String,
    host: String,
    image_digest: String,
    last_seen_at: OffsetDateTime,
}

impl Scope {
    /// Adds an executor, or renews what is known of it. Gives its new epoch.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn upsert_executor(&mut self, executor: &EnrolRequest) -> Result<i64, StoreError> {
        let owner = self.owner.clone();
        let epoch = sqlx::query_scalar(
            "INSERT INTO executors (tenant_id, id, version, host, image_digest, epoch)
             VALUES ($1, $2, $3, $4, $5, 1)
             ON CONFLICT (tenant_id, id) DO UPDATE
             SET version = excluded.version, host = excluded.host,
                 image_digest = excluded.image_digest, last_seen_at = now(),
                 epoch = executors.epoch + 1
             RETURNING epoch",
        )
        .bind(owner)
        .bind(executor.executor_id.to_string())
        .bind(&executor.version)
        .bind(&executor.host)
        .bind(&executor.image_digest)
        .fetch_one(self.connection())
        .await?;
        Ok(epoch)
    }

    /// The tenant's executors, the one heard of last first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_executors(&mut self) -> Result<Vec<Executor>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, version, host, image_digest, last_seen_at FROM executors
             WHERE tenant_id = $1 ORDER BY last_seen_at DESC LIMIT 1000",
        )
        .bind(owner)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Executor {
                    id: parsed(row.id.parse().ok(), "executor id")?,
                    version: row.version,
                    host: row.host,
                    image_digest: row.image_digest,
                    last_seen_at: row.last_seen_at,
                })
            })
            .collect()
    }
}
