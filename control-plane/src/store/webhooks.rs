//! Webhooks and the calls that are still to be made.

use domain::ids::{TokenId, WebhookId};
use sqlx::FromRow;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Scope, StoreError};

/// A webhook.
#[derive(Clone)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Where calls go.
    pub url: String,
    /// What is told.
    pub events: Vec<String>,
    /// What calls are signed with, wrapped.
    pub secret: Vec<u8>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// A call that is due.
#[derive(Debug, Clone, FromRow)]
pub struct DueCall {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub tenant_id: String,
    /// Which webhook.
    pub webhook_id: String,
    /// What happened.
    pub event: String,
    /// The id of what it happened to.
    pub subject: String,
    /// When it happened.
    pub created_at: OffsetDateTime,
    /// Attempts, this one included.
    pub attempts: i32,
}

#[derive(FromRow)]
struct Row {
    id: String,
    url: String,
    events: Vec<String>,
    secret: Vec<u8>,
    created_at: OffsetDateTime,
}

impl TryFrom<Row> for Webhook {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let id = parsed(row.id.parse().ok(), "webhook id")?;
        let Row { url, events, secret, created_at, .. } = row;
        Ok(Self { id, url, events, secret, created_at })
    }
}

impl Scope {
    /// Stores a webhook.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_webhook(
        &mut self,
        webhook: &Webhook,
        created_by: TokenId,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO webhooks (tenant_id, id, url, events, secret, created_by, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(owner)
        .bind(webhook.id.to_string())
        .bind(&webhook.url)
        .bind(&webhook.events)
        .bind(&webhook.secret)
        .bind(created_by.to_string())
        .bind(webhook.created_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The webhooks of this scope, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_webhooks(
        &mut self,
        after: Option<WebhookId>,
        limit: i64,
    ) -> Result<Vec<Webhook>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, url, events, secret, created_at FROM webhooks
             WHERE tenant_id = $1 AND id > coalesce($2, '') ORDER BY id LIMIT $3",
        )
        .bind(owner)
        .bind(after.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(Webhook::try_from).collect()
    }

    /// One webhook.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such webhook.
    pub async fn get_webhook(&mut self, id: &str) -> Result<Webhook, StoreError> {
        let owner = self.owner.clone();
        let row: Row = sqlx::query_as(
            "SELECT id, url, events, secret, created_at FROM webhooks
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(owner)
        .bind(id)
        .fetch_one(self.connection())
        .await?;
        row.try_into()
    }

    /// Deletes a webhook with the calls that it still waits for.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such webhook.
    pub async fn delete_webhook(&mut self, id: WebhookId) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        let deleted = sqlx::query("DELETE FROM webhooks WHERE tenant_id = $1 AND id = $2")
            .bind(owner)
            .bind(id.to_string())
            .execute(self.connection())
            .await?;
        if deleted.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
    }

    /// Promises a call to every webhook that wants to hear of `event`, with this transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn queue_webhooks(&mut self, event: &str, subject: &str) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO webhook_queue (tenant_id, webhook_id, event, subject)
             SELECT tenant_id, id, $2, $3 FROM webhooks
             WHERE tenant_id = $1 AND $2 = ANY (events)",
        )
        .bind(owner)
        .bind(event)
        .bind(subject)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Takes calls that are due; nobody else gets them for `lease_s` seconds, times two with each
    /// attempt. Platform only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_due_calls(
        &mut self,
        lease_s: f64,
        limit: i64,
    ) -> Result<Vec<DueCall>, StoreError> {
        Ok(sqlx::query_as(
            "UPDATE webhook_queue SET attempts = attempts + 1,
                    next_at = now() + make_interval(secs => least($1 * 2 ^ attempts, 3600))
             WHERE id IN (SELECT id FROM webhook_queue WHERE next_at <= now()
                          ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED)
             RETURNING id, tenant_id, webhook_id, event, subject, created_at, attempts",
        )
        .bind(lease_s)
        .bind(limit)
        .fetch_all(self.connection())
        .await?)
    }

    /// Forgets a call that was taken or given up.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_call(&mut self, id: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM webhook_queue WHERE id = $1")
            .bind(id)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
