//! Rings for executors that are connected to another replica: announced, never stored.

use domain::ids::{ExecutorId, TenantId};
use protocol::calls::Ring;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgListener;

use super::{Store, StoreError};

const CHANNEL: &str = "bulkhead_calls";

#[derive(Serialize, Deserialize)]
struct Announcement {
    tenant_id: TenantId,
    executor_id: ExecutorId,
    ring: Ring,
}

/// See the module.
pub struct Rings {
    listener: PgListener,
}

impl Rings {
    /// The next ring; `None` when some may have been missed, or for what is no ring.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn next(&mut self) -> Result<Option<(TenantId, ExecutorId, Ring)>, StoreError> {
        let Some(news) = self.listener.try_recv().await? else { return Ok(None) };
        let announcement: Option<Announcement> = serde_json::from_str(news.payload()).ok();
        Ok(announcement.map(|news| (news.tenant_id, news.executor_id, news.ring)))
    }
}

impl Store {
    /// A connection of its own that hears rings.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn listen_for_rings(&self) -> Result<Rings, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Rings { listener })
    }

    /// Tells every replica of a ring.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn announce_ring(
        &self,
        tenant_id: TenantId,
        executor_id: ExecutorId,
        ring: &Ring,
    ) -> Result<(), StoreError> {
        let news = Announcement { tenant_id, executor_id, ring: ring.clone() };
        let text = serde_json::to_string(&news).map_err(|_| StoreError::Inconsistent("ring"))?;
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(text)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
