//! Tenants.

use domain::ids::TenantId;
use sqlx::FromRow;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Scope, StoreError};

/// A tenant.
#[derive(Clone)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, unique; part of its queue's name.
    pub name: String,
    /// Counts tenants from 1.
    pub number: i32,
    /// Its payload key, wrapped with the master key.
    pub payload_key: Vec<u8>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

#[derive(FromRow)]
struct Row {
    id: String,
    name: String,
    number: i32,
    payload_key: Vec<u8>,
    created_at: OffsetDateTime,
}

impl TryFrom<Row> for Tenant {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: parsed(row.id.parse().ok(), "tenant id")?,
            name: row.name,
            number: row.number,
            payload_key: row.payload_key,
            created_at: row.created_at,
        })
    }
}

impl Scope {
    /// Adds a tenant. Platform only: row-level security refuses it to others.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the name is taken.
    pub async fn insert_tenant(
        &mut self,
        id: TenantId,
        name: &str,
        payload_key: &[u8],
    ) -> Result<Tenant, StoreError> {
        let row: Row = sqlx::query_as(
            "INSERT INTO tenants (id, name, payload_key) VALUES ($1, $2, $3)
             RETURNING id, name, number, payload_key, created_at",
        )
        .bind(id.to_string())
        .bind(name)
        .bind(payload_key)
        .fetch_one(self.connection())
        .await?;
        row.try_into()
    }

    /// The tenants that this scope sees, oldest first: all for the platform, itself for a tenant.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_tenants(
        &mut self,
        after: Option<TenantId>,
        limit: i64,
    ) -> Result<Vec<Tenant>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, number, payload_key, created_at FROM tenants
             WHERE id > coalesce($1, '') ORDER BY id LIMIT $2",
        )
        .bind(after.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(Tenant::try_from).collect()
    }

    /// The tenant of this scope.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is gone.
    pub async fn get_own_tenant(&mut self) -> Result<Tenant, StoreError> {
        let owner = self.owner.clone();
        let row: Row = sqlx::query_as(
            "SELECT id, name, number, payload_key, created_at FROM tenants WHERE id = $1",
        )
        .bind(owner)
        .fetch_one(self.connection())
        .await?;
        row.try_into()
    }
}
