//! Appends to a chain of the audit log, and reads it.
//!
//! Writing holds the chain's head until the transaction ends: numbers have no gaps, because a
//! transaction that fails gives its number back.

use audit::v1::{Event, hash};
use audit::{GENESIS, Hash};
use domain::ids::{SessionId, TokenId};
use serde_json::Value;
use sqlx::FromRow;

use super::{Scope, StoreError};

/// What to write down.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Who did it.
    pub actor: String,
    /// The token used, if one was.
    pub token_id: Option<TokenId>,
    /// Network address of the caller, if there was one.
    pub address: Option<String>,
    /// What was done.
    pub action: &'static str,
    /// What it was done to.
    pub object: String,
    /// The session that it belongs to, if any.
    pub session_id: Option<SessionId>,
    /// How it went.
    pub outcome: &'static str,
    /// Everything else.
    pub detail: Value,
}

/// What was written down.
#[derive(Debug, Clone, FromRow)]
#[allow(missing_docs)] // the columns of `audit_events`; see crates/audit
pub struct AuditRecord {
    pub chain: String,
    pub seq: i64,
    pub time_us: i64,
    pub actor: String,
    pub token_id: Option<String>,
    pub address: Option<String>,
    pub action: String,
    pub object: String,
    pub session_id: Option<String>,
    pub outcome: String,
    pub detail: String,
    pub hash: Vec<u8>,
}

impl AuditRecord {
    /// The event that the hash is over.
    pub fn event(&self) -> Event {
        Event {
            chain: self.chain.clone(),
            seq: self.seq,
            time_us: self.time_us,
            actor: self.actor.clone(),
            token_id: self.token_id.clone(),
            address: self.address.clone(),
            action: self.action.clone(),
            object: self.object.clone(),
            session_id: self.session_id.clone(),
            outcome: self.outcome.clone(),
            detail: self.detail.clone(),
        }
    }
}

impl Scope {
    /// Appends to this scope's chain, when the transaction commits. Without its audit event, the
    /// change is not committed.
    pub fn append_audit(&mut self, entry: AuditEntry) {
        self.audit.push(entry);
    }

    pub(super) async fn flush_audit(&mut self) -> Result<(), StoreError> {
        for entry in std::mem::take(&mut self.audit) {
            self.write_audit(entry).await?;
        }
        Ok(())
    }

    async fn write_audit(&mut self, entry: AuditEntry) -> Result<(), StoreError> {
        let chain = self.owner.clone();
        let (seq, previous, time_us) = self.lock_head(&chain).await?;
        let event = Event {
            chain,
            seq: seq + 1,
            time_us,
            actor: entry.actor,
            token_id: entry.token_id.map(|id| id.to_string()),
            address: entry.address,
            action: entry.action.into(),
            object: entry.object,
            session_id: entry.session_id.map(|id| id.to_string()),
            outcome: entry.outcome.into(),
            detail: entry.detail.to_string(),
        };
        let hash = hash(&previous, &event);
        sqlx::query(
            "WITH advanced AS (
                 UPDATE audit_heads SET seq = $2, hash = $12 WHERE chain = $1
             )
             INSERT INTO audit_events (chain, seq, time_us, actor, token_id, address, action,
                                       object, session_id, outcome, detail, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(&event.chain)
        .bind(event.seq)
        .bind(event.time_us)
        .bind(&event.actor)
        .bind(&event.token_id)
        .bind(&event.address)
        .bind(&event.action)
        .bind(&event.object)
        .bind(&event.session_id)
        .bind(&event.outcome)
        .bind(&event.detail)
        .bind(hash.as_slice())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn lock_head(&mut self, chain: &str) -> Result<(i64, Hash, i64), StoreError> {
        let lock = "SELECT seq, hash, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
                    FROM audit_heads WHERE chain = $1 FOR UPDATE";
        type Head = (i64, Vec<u8>, i64);
        let found: Option<Head> =
            sqlx::query_as(lock).bind(chain).fetch_optional(self.connection()).await?;
        let (seq, hash, time_us) = match found {
            Some(head) => head,
            None => {
                sqlx::query(
                    "INSERT INTO audit_heads (chain, seq, hash) VALUES ($1, 0, $2)
                     ON CONFLICT DO NOTHING",
                )
                .bind(chain)
                .bind(GENESIS.as_slice())
                .execute(self.connection())
                .await?;
                sqlx::query_as(lock).bind(chain).fetch_one(self.connection()).await?
            }
        };
        let hash = hash.try_into().map_err(|_| StoreError::Inconsistent("audit head"))?;
        Ok((seq, hash, time_us))
    }

    /// Events of this scope's chain after `after`, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_audit(
        &mut self,
        after: i64,
        session_id: Option<SessionId>,
        limit: i64,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let chain = self.owner.clone();
        Ok(sqlx::query_as(
            "SELECT chain, seq, time_us, actor, token_id, address, action, object, session_id,
                    outcome, detail, hash
             FROM audit_events
             WHERE chain = $1 AND seq > $2 AND ($3::text IS NULL OR session_id = $3)
             ORDER BY seq LIMIT $4",
        )
        .bind(chain)
        .bind(after)
        .bind(session_id.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(self.connection())
        .await?)
    }
}
