//! Policies: immutable versions, the highest is the active one. Also who asks and where, which
//! decisions depend on.

use domain::ids::{SessionId, TokenId};
use domain::sampling::Sampling;
use sqlx::FromRow;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Scope, StoreError};

/// One version of a tenant's policy.
#[derive(Debug, Clone, FromRow)]
pub struct Policy {
    /// Counts from 1.
    pub version: i64,
    /// Cedar text.
    pub text: String,
    /// Who put it, as the audit log names them.
    pub author: String,
    /// When.
    pub created_at: OffsetDateTime,
}

/// A version in a list, without its text.
#[derive(Debug, Clone, FromRow)]
pub struct PolicyVersion {
    /// Counts from 1.
    pub version: i64,
    /// Who put it, as the audit log names them.
    pub author: String,
    /// When.
    pub created_at: OffsetDateTime,
    /// Bytes of its text.
    pub bytes: i32,
}

/// A version to be stored.
pub struct NewPolicy<'a> {
    /// One more than the one before.
    pub version: i64,
    /// Cedar text.
    pub text: &'a str,
    /// The token that puts it.
    pub created_by: TokenId,
    /// How the audit log names it.
    pub author: &'a str,
}

/// Who asks and where, and the version that decides.
#[derive(Debug, Clone, Default, FromRow)]
pub struct Scene {
    /// The name of the token that asks.
    pub token: String,
    /// Its role.
    pub role: String,
    /// The name of the tenant.
    pub tenant: String,
    /// The name of the session.
    pub session: String,
    /// What the session is for.
    pub environment: String,
    /// The active policy version; 0 where the tenant has none.
    pub policy_version: i64,
    /// Which execs are reviewed; none where the tenant has not said.
    pub sampling: Option<Json<Sampling>>,
}

impl Scope {
    /// Stores a version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when somebody else put that version meanwhile.
    pub async fn insert_policy(&mut self, policy: &NewPolicy<'_>) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO policies (tenant_id, version, text, created_by, author)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(owner)
        .bind(policy.version)
        .bind(policy.text)
        .bind(policy.created_by.to_string())
        .bind(policy.author)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The active version's number; 0 where the tenant has none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn active_policy_version(&mut self) -> Result<i64, StoreError> {
        let owner = self.owner.clone();
        let version: Option<i64> =
            sqlx::query_scalar("SELECT max(version) FROM policies WHERE tenant_id = $1")
                .bind(owner)
                .fetch_one(self.connection())
                .await?;
        Ok(version.unwrap_or(0))
    }

    /// One version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such version.
    pub async fn get_policy(&mut self, version: i64) -> Result<Policy, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_as(
            "SELECT version, text, author, created_at FROM policies
             WHERE tenant_id = $1 AND version = $2",
        )
        .bind(owner)
        .bind(version)
        .fetch_one(self.connection())
        .await?)
    }

    /// Versions, newest first, older than `before` if given.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_policies(
        &mut self,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<PolicyVersion>, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_as(
            "SELECT version, author, created_at, octet_length(text) AS bytes FROM policies
             WHERE tenant_id = $1 AND ($2::bigint IS NULL OR version < $2)
             ORDER BY version DESC LIMIT $3",
        )
        .bind(owner)
        .bind(before)
        .bind(limit)
        .fetch_all(self.connection())
        .await?)
    }

    /// Who asks in a session: a token, named by what is stored of it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such session.
    pub async fn get_scene(
        &mut self,
        token_id: &str,
        session_id: SessionId,
    ) -> Result<Scene, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_as(
            "SELECT coalesce(k.name, '') AS token, coalesce(k.role, '') AS role,
                    t.name AS tenant, s.name AS session, s.environment,
                    coalesce((SELECT max(version) FROM policies WHERE tenant_id = $1), 0)
                        AS policy_version,
                    (SELECT value FROM audit_settings
                     WHERE tenant_id = $1 AND kind = 'sampling' ORDER BY version DESC LIMIT 1)
                        AS sampling
             FROM sessions s JOIN tenants t ON t.id = s.tenant_id
             LEFT JOIN tokens k ON k.tenant_id = s.tenant_id AND k.id = $3
             WHERE s.tenant_id = $1 AND s.id = $2",
        )
        .bind(owner)
        .bind(session_id.to_string())
        .bind(token_id)
        .fetch_one(self.connection())
        .await?)
    }
}
