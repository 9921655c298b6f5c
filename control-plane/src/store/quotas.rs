//! What tenants may use and what they use.

use domain::ids::TenantId;
use domain::quota::{Quota, Usage};
use sqlx::FromRow;
use sqlx::types::Json;

use super::{Scope, StoreError};

#[derive(FromRow)]
struct Row {
    limits: Option<Json<Quota>>,
    sessions: i64,
    concurrent_execs: i64,
    memory_bytes: i64,
    cpu_millis: i64,
    exec_ms: i64,
    output_bytes: i64,
    model_tokens: i64,
}

impl Row {
    fn split(self) -> (Quota, Usage) {
        let usage = Usage {
            sessions: self.sessions,
            concurrent_execs: self.concurrent_execs,
            memory_bytes: self.memory_bytes,
            cpu_millis: self.cpu_millis,
            exec_seconds: self.exec_ms / 1000,
            output_bytes: self.output_bytes,
            model_tokens: self.model_tokens,
        };
        (self.limits.map(|limits| limits.0).unwrap_or_default(), usage)
    }
}

/// Execs that may be added at the same time, by all control planes: their connections.
const ROOM: i64 = 512;

/// Sums over open sessions are left out where nobody asks for them.
const EXECS: &str = "SELECT (SELECT limits FROM quotas WHERE tenant_id = $1) AS limits,
        0::bigint AS sessions, 0::bigint AS memory_bytes, 0::bigint AS cpu_millis,
        (SELECT count(*) FROM execs WHERE tenant_id = $1 AND finished_at IS NULL)
            AS concurrent_execs,
        coalesce(today.exec_ms, 0) AS exec_ms, coalesce(today.output_bytes, 0) AS output_bytes,
        coalesce(today.model_tokens, 0) AS model_tokens
     FROM (VALUES (1)) AS one
     LEFT JOIN usage_days AS today
         ON today.tenant_id = $1 AND today.day = (now() AT TIME ZONE 'UTC')::date";

const ALL: &str = "SELECT (SELECT limits FROM quotas WHERE tenant_id = $1) AS limits,
        open.sessions, open.memory_bytes, open.cpu_millis,
        (SELECT count(*) FROM execs WHERE tenant_id = $1 AND finished_at IS NULL)
            AS concurrent_execs,
        coalesce(today.exec_ms, 0) AS exec_ms, coalesce(today.output_bytes, 0) AS output_bytes,
        coalesce(today.model_tokens, 0) AS model_tokens
     FROM (SELECT count(*) AS sessions,
                  coalesce(sum((limits->>'memory_bytes')::bigint), 0)::bigint AS memory_bytes,
                  coalesce(sum((limits->>'cpu_millis')::bigint), 0)::bigint AS cpu_millis
           FROM sessions WHERE tenant_id = $1 AND state <> 'closed') AS open
     LEFT JOIN usage_days AS today
         ON today.tenant_id = $1 AND today.day = (now() AT TIME ZONE 'UTC')::date";

impl Scope {
    /// The tenant's quota and all that it uses.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn get_usage(&mut self) -> Result<(Quota, Usage), StoreError> {
        self.read_usage(ALL).await
    }

    /// The same, and nobody else gets it until this transaction ends: what is checked now still
    /// holds when something is added. Comes before every other lock of a transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_usage(&mut self) -> Result<(Quota, Usage), StoreError> {
        self.lock_usage().await?;
        self.read_usage(ALL).await
    }

    /// The same for execs, without what sessions use. As long as there is room for all that can
    /// be under way, nobody waits for anybody.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_exec_usage(&mut self) -> Result<(Quota, Usage), StoreError> {
        let (quota, usage) = self.read_usage(EXECS).await?;
        if usage.concurrent_execs.saturating_add(ROOM) < quota.concurrent_execs {
            return Ok((quota, usage));
        }
        self.lock_usage().await?;
        self.read_usage(EXECS).await
    }

    async fn lock_usage(&mut self) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('quota/' || $1, 0))")
            .bind(owner)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    async fn read_usage(&mut self, query: &'static str) -> Result<(Quota, Usage), StoreError> {
        let owner = self.owner.clone();
        let row: Row = sqlx::query_as(query).bind(owner).fetch_one(self.connection()).await?;
        Ok(row.split())
    }

    /// Adds to what the tenant used today.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_usage(
        &mut self,
        exec_ms: i64,
        output_bytes: i64,
        model_tokens: i64,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO usage_days (tenant_id, day, exec_ms, output_bytes, model_tokens)
             VALUES ($1, (now() AT TIME ZONE 'UTC')::date, $2, $3, $4)
             ON CONFLICT (tenant_id, day) DO UPDATE
             SET exec_ms = usage_days.exec_ms + excluded.exec_ms,
                 output_bytes = usage_days.output_bytes + excluded.output_bytes,
                 model_tokens = usage_days.model_tokens + excluded.model_tokens",
        )
        .bind(owner)
        .bind(exec_ms)
        .bind(output_bytes)
        .bind(model_tokens)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Sets what a tenant may use. Platform only: row-level security refuses it to others.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such tenant.
    pub async fn set_quota(&mut self, tenant: TenantId, quota: &Quota) -> Result<(), StoreError> {
        sqlx::query_scalar::<_, String>(
            "INSERT INTO quotas (tenant_id, limits)
             SELECT id, $2 FROM tenants WHERE id = $1
             ON CONFLICT (tenant_id) DO UPDATE SET limits = excluded.limits
             RETURNING tenant_id",
        )
        .bind(tenant.to_string())
        .bind(Json(quota))
        .fetch_one(self.connection())
        .await?;
        Ok(())
    }
}
