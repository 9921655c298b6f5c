//! Tokens and their revocation. A token's secret is never stored.

use std::collections::HashSet;

use domain::access::Role;
use domain::ids::TokenId;
use sqlx::FromRow;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Scope, Store, StoreError};

/// A token, without its secret.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// The token that asked for it.
    pub created_by: Option<TokenId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last used, to the minute or so.
    pub last_used_at: Option<OffsetDateTime>,
    /// When it ends by itself.
    pub expires_at: OffsetDateTime,
    /// When it was revoked, if it was.
    pub revoked_at: Option<OffsetDateTime>,
}

/// A token to be stored.
pub struct NewToken<'a> {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of its `jti`.
    pub jti_hash: &'a [u8],
    /// Its name.
    pub name: &'a str,
    /// What it is good for.
    pub role: Role,
    /// The token that asked for it.
    pub created_by: Option<TokenId>,
    /// When it ends by itself.
    pub expires_at: OffsetDateTime,
}

#[derive(FromRow)]
struct Row {
    id: String,
    name: String,
    role: String,
    created_by: Option<String>,
    last_used_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    revoked_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Token {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: parsed(row.id.parse().ok(), "token id")?,
            name: row.name,
            role: parsed(Role::from_name(&row.role), "token role")?,
            created_by: row
                .created_by
                .map(|id| parsed(id.parse().ok(), "token creator"))
                .transpose()?,
            last_used_at: row.last_used_at,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
    }
}

impl Scope {
    /// Stores a token.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_token(&mut self, token: &NewToken<'_>) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO tokens (tenant_id, id, jti_hash, name, role, created_by, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(owner)
        .bind(token.id.to_string())
        .bind(token.jti_hash)
        .bind(token.name)
        .bind(token.role.as_str())
        .bind(token.created_by.map(|id| id.to_string()))
        .bind(token.expires_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The tokens of this scope, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_tokens(
        &mut self,
        after: Option<TokenId>,
        limit: i64,
    ) -> Result<Vec<Token>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, role, created_by, last_used_at, created_at, expires_at, revoked_at
             FROM tokens
             WHERE tenant_id = $1 AND id > coalesce($2, '') ORDER BY id LIMIT $3",
        )
        .bind(owner)
        .bind(after.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(Token::try_from).collect()
    }

    /// Whether `token` was made by `maker`, or by a token that `maker` made, and so on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn descends_from(
        &mut self,
        token: TokenId,
        maker: TokenId,
    ) -> Result<bool, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_scalar(
            "WITH RECURSIVE makers AS (
                 SELECT created_by FROM tokens WHERE tenant_id = $1 AND id = $2
                 UNION
                 SELECT t.created_by FROM tokens t JOIN makers m ON t.id = m.created_by
                 WHERE t.tenant_id = $1
             )
             SELECT EXISTS (SELECT FROM makers WHERE created_by = $3)",
        )
        .bind(owner)
        .bind(token.to_string())
        .bind(maker.to_string())
        .fetch_one(self.connection())
        .await?)
    }

    /// Notes that tokens were used now, unless that was noted within the last seconds.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_token_use(&mut self, tokens: &HashSet<TokenId>) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        let ids: Vec<String> = tokens.iter().map(TokenId::to_string).collect();
        sqlx::query(
            "UPDATE tokens SET last_used_at = now()
             WHERE tenant_id = $1 AND id = ANY ($2)
               AND (last_used_at IS NULL OR last_used_at < now() - interval '10 s')",
        )
        .bind(owner)
        .bind(ids)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Revokes a token, for every control plane. Revoking twice changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when this scope has no such token.
    pub async fn revoke_token(&mut self, id: TokenId) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        let (jti_hash, expires_at): (Vec<u8>, OffsetDateTime) = sqlx::query_as(
            "UPDATE tokens SET revoked_at = coalesce(revoked_at, now())
             WHERE tenant_id = $1 AND id = $2 RETURNING jti_hash, expires_at",
        )
        .bind(owner)
        .bind(id.to_string())
        .fetch_one(self.connection())
        .await?;
        sqlx::query(
            "INSERT INTO revocations (jti_hash, expires_at) VALUES ($1, $2)
             ON CONFLICT DO NOTHING",
        )
        .bind(jti_hash)
        .bind(expires_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

impl Store {
    /// Hashes of every revoked token that has not expired. Holds nothing of any tenant.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_revocations(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(sqlx::query_scalar("SELECT jti_hash FROM revocations WHERE expires_at > now()")
            .fetch_all(&self.pool)
            .await?)
    }
}
