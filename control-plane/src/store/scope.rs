//! A transaction on behalf of one tenant, or of the platform. There is no other way to a table.

use std::time::Instant;

use domain::ids::TenantId;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};

use super::turnstile::Turnstile;
use super::{ACQUIRE_TIMEOUT, AuditEntry, Store, StoreError};

/// On whose behalf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// One tenant.
    Tenant(TenantId),
    /// The platform itself, which sees no tenant's data.
    Platform,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tenant(tenant_id) => tenant_id.fmt(f),
            Self::Platform => f.write_str("system"),
        }
    }
}

/// See the module. Dropped without [`Scope::commit`], nothing of it happened.
pub struct Scope {
    transaction: Transaction<'static, Postgres>,
    /// The value of `tenant_id` in every row that this scope sees.
    pub(super) owner: String,
    who: Who,
    /// Audit entries of this transaction. They are appended last, so that the head of the chain,
    /// which every change of a tenant needs, is held for a moment only and never waited for with
    /// another row in hand that its holder wants.
    pub(super) audit: Vec<AuditEntry>,
    pub(super) turnstile: Turnstile,
}

impl Scope {
    pub(super) async fn open(store: &Store, who: Who) -> Result<Self, StoreError> {
        let pool = &store.pool;
        let owner = who.to_string();
        // One round trip for both. Local to the transaction: a pooled connection never carries it to
        // the next caller. An id has hex digits and an underscore, nothing that could end the text.
        let begin = format!("BEGIN; SET LOCAL app.tenant_id = '{owner}'");
        // No more than the pool can hold of them, and no longer than anybody waits for a connection.
        let (mut stale, deadline) = (0, Instant::now() + ACQUIRE_TIMEOUT);
        let transaction = loop {
            match pool.begin_with(AssertSqlSafe(begin.clone())).await {
                Err(error)
                    if is_stale(&error)
                        && stale < pool.options().get_max_connections()
                        && Instant::now() < deadline =>
                {
                    stale += 1;
                }
                begun => break begun?,
            }
        };
        Ok(Self { transaction, owner, who, audit: Vec::new(), turnstile: store.turnstile.clone() })
    }

    /// Goes on, in the same transaction, on behalf of a tenant that the platform has just made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn continue_as_tenant(&mut self, tenant_id: TenantId) -> Result<(), StoreError> {
        self.write_audit("").await?;
        self.who = Who::Tenant(tenant_id);
        self.owner = self.who.to_string();
        set_tenant(&mut self.transaction, &self.owner).await
    }

    /// Makes everything that was done in this scope last.
    ///
    /// # Errors
    /// When the database refused or did not answer; then it may or may not have happened, and
    /// callers must be able to repeat it.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if self.audit.is_empty() {
            return Ok(self.transaction.commit().await?);
        }
        // The transaction that this begins is empty, and ends with the scope.
        self.write_audit("COMMIT AND CHAIN").await
    }

    /// Undoes everything that was done in this scope, and lets go of what it holds, now: a scope that
    /// is merely dropped does so a moment later.
    ///
    /// # Errors
    /// When the database did not answer; then it is undone as well.
    pub async fn abandon(self) -> Result<(), StoreError> {
        Ok(self.transaction.rollback().await?)
    }

    /// On whose behalf this is.
    pub fn who(&self) -> Who {
        self.who
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

/// Whether the server had closed a pooled connection before it was used: Postgres was started anew,
/// and nothing was done with it since.
fn is_stale(error: &sqlx::Error) -> bool {
    use std::io::ErrorKind as Kind;
    match error {
        sqlx::Error::Io(error) => matches!(
            error.kind(),
            Kind::UnexpectedEof
                | Kind::BrokenPipe
                | Kind::ConnectionReset
                | Kind::ConnectionAborted
        ),
        // Shut down by its administrator, or because another connection crashed.
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("57P01" | "57P02")),
        _ => false,
    }
}

async fn set_tenant(connection: &mut PgConnection, owner: &str) -> Result<(), StoreError> {
    sqlx::query("SELECT set_config('app.tenant_id', $1, true)")
        .bind(owner)
        .execute(connection)
        .await?;
    Ok(())
}
