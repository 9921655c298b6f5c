//! A transaction on behalf of one tenant, or of the platform. There is no other way to a table.

use domain::ids::TenantId;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::StoreError;

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
}

impl Scope {
    pub(super) async fn open(pool: &PgPool, who: Who) -> Result<Self, StoreError> {
        let mut transaction = pool.begin().await?;
        let owner = who.to_string();
        // Local to the transaction: a pooled connection never carries it to the next caller.
        sqlx::query("SELECT set_config('app.tenant_id', $1, true)")
            .bind(&owner)
            .execute(&mut *transaction)
            .await?;
        Ok(Self { transaction, owner, who })
    }

    /// Makes everything that was done in this scope last.
    ///
    /// # Errors
    /// When the database refused or did not answer; then it may or may not have happened, and
    /// callers must be able to repeat it.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }

    /// On whose behalf this is.
    pub fn who(&self) -> Who {
        self.who
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}
