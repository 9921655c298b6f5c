//! Messages for workflows, promised in the same transaction as the change they speak of.
//!
//! The table holds ids only and no row-level security: the dispatcher serves all tenants.

use domain::ids::{ApprovalId, ExecId, SessionId, TenantId, TurnId};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use super::error::parsed;
use super::{Scope, Store, StoreError, Who};

/// One signal to a session's workflow. Every one of them may arrive twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A turn to carry out.
    Turn(TurnId),
    /// An exec to carry out.
    Exec(ExecId),
    /// An approval was decided: look again.
    Approval(ApprovalId),
    /// An exec was called off.
    CancelExec(ExecId),
    /// A turn was interrupted.
    Interrupt(TurnId),
    /// The session was asked to end.
    Shutdown,
}

/// A message on its way.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// Position in the outbox.
    pub id: i64,
    /// Whose session.
    pub tenant_id: TenantId,
    /// Which session.
    pub session_id: SessionId,
    /// What to say.
    pub message: Message,
}

impl Scope {
    /// Promises a message.
    ///
    /// # Errors
    /// When the database fails, or this is the platform's scope.
    pub async fn promise(
        &mut self,
        session_id: SessionId,
        message: Message,
    ) -> Result<Outgoing, StoreError> {
        let Who::Tenant(tenant_id) = self.who() else {
            return Err(StoreError::Inconsistent("outbox scope"));
        };
        let id = sqlx::query_scalar(
            "INSERT INTO outbox (tenant_id, session_id, message) VALUES ($1, $2, $3) RETURNING id",
        )
        .bind(tenant_id.to_string())
        .bind(session_id.to_string())
        .bind(Json(message))
        .fetch_one(self.connection())
        .await?;
        Ok(Outgoing { id, tenant_id, session_id, message })
    }
}

impl Scope {
    /// Promises each session with a pending approval that it is looked at again.
    ///
    /// # Errors
    /// When the database fails, or this is the platform's scope.
    pub async fn promise_reconsideration(&mut self) -> Result<Vec<Outgoing>, StoreError> {
        let Who::Tenant(tenant_id) = self.who() else {
            return Err(StoreError::Inconsistent("outbox scope"));
        };
        let rows: Vec<(i64, String, Json<Message>)> = sqlx::query_as(
            "INSERT INTO outbox (tenant_id, session_id, message)
             SELECT DISTINCT ON (session_id) tenant_id, session_id,
                    jsonb_build_object('approval', id)
             FROM approvals WHERE tenant_id = $1 AND state = 'pending' ORDER BY session_id, id
             RETURNING id, session_id, message",
        )
        .bind(tenant_id.to_string())
        .fetch_all(self.connection())
        .await?;
        rows.into_iter()
            .map(|(id, session_id, message)| {
                let session_id = parsed(session_id.parse().ok(), "outbox session")?;
                Ok(Outgoing { id, tenant_id, session_id, message: message.0 })
            })
            .collect()
    }
}

impl Store {
    /// How many messages wait.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_outbox(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&self.pool).await?)
    }

    /// Messages that have waited for at least `age_s` seconds, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_overdue(&self, age_s: f64) -> Result<Vec<Outgoing>, StoreError> {
        let rows: Vec<(i64, String, String, Json<Message>)> = sqlx::query_as(
            "SELECT id, tenant_id, session_id, message FROM outbox
             WHERE created_at < now() - make_interval(secs => $1) ORDER BY id LIMIT 100",
        )
        .bind(age_s)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|(id, tenant_id, session_id, message)| {
                Ok(Outgoing {
                    id,
                    tenant_id: parsed(tenant_id.parse().ok(), "outbox tenant")?,
                    session_id: parsed(session_id.parse().ok(), "outbox session")?,
                    message: message.0,
                })
            })
            .collect()
    }

    /// A message was handed over.
    ///
    /// # Errors
    /// When the database fails; the message is then sent again, which does no harm.
    pub async fn delete_outgoing(&self, id: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM outbox WHERE id = $1").bind(id).execute(&self.pool).await?;
        Ok(())
    }
}
