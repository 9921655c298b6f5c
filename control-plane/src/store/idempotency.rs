//! Idempotency keys: the same request sent twice has one effect.

use domain::ids::TokenId;

use super::{Scope, StoreError};

/// Whether a key was used before.
pub enum KeyUse {
    /// It was not; it is now, for this subject.
    First,
    /// It was, with the same request, for this subject.
    Repeated(String),
    /// It was, with another request.
    Reused,
    /// A request with it is under way.
    InUse,
}

impl Scope {
    /// Claims `key` for `subject`, in this transaction. Keys of the day before are forgotten.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_key(
        &mut self,
        token_id: TokenId,
        key: &str,
        fingerprint: &[u8],
        subject: &str,
    ) -> Result<KeyUse, StoreError> {
        // What is not claimed is not held either: whoever asks next must not find us in the way.
        sqlx::query("SAVEPOINT claim").execute(self.connection()).await?;
        let used = self.try_claim_key(token_id, key, fingerprint, subject).await?;
        if !matches!(used, KeyUse::First) {
            sqlx::query("ROLLBACK TO SAVEPOINT claim").execute(self.connection()).await?;
        }
        Ok(used)
    }

    async fn try_claim_key(
        &mut self,
        token_id: TokenId,
        key: &str,
        fingerprint: &[u8],
        subject: &str,
    ) -> Result<KeyUse, StoreError> {
        let owner = self.owner.clone();
        // Held until the transaction ends, so that a request at the same time is noticed.
        let free: bool = sqlx::query_scalar(
            "SELECT pg_try_advisory_xact_lock(hashtextextended($1 || '/' || $2 || '/' || $3, 1))",
        )
        .bind(&owner)
        .bind(token_id.to_string())
        .bind(key)
        .fetch_one(self.connection())
        .await?;
        if !free {
            return Ok(KeyUse::InUse);
        }
        self.forget_old_keys().await?;
        let claimed = sqlx::query(
            "INSERT INTO idempotency_keys (tenant_id, token_id, key, fingerprint, subject)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(&owner)
        .bind(token_id.to_string())
        .bind(key)
        .bind(fingerprint)
        .bind(subject)
        .execute(self.connection())
        .await?;
        if claimed.rows_affected() == 1 {
            return Ok(KeyUse::First);
        }
        let (stored, subject): (Vec<u8>, String) = sqlx::query_as(
            "SELECT fingerprint, subject FROM idempotency_keys
             WHERE tenant_id = $1 AND token_id = $2 AND key = $3",
        )
        .bind(owner)
        .bind(token_id.to_string())
        .bind(key)
        .fetch_one(self.connection())
        .await?;
        Ok(if stored == fingerprint { KeyUse::Repeated(subject) } else { KeyUse::Reused })
    }

    /// Forgets keys of the day before, with what they keep.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_old_keys(&mut self) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "DELETE FROM idempotency_keys
             WHERE tenant_id = $1 AND created_at < now() - interval '24 hours'",
        )
        .bind(owner)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Keeps the answer of the request that has claimed `key`, wrapped.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_answer(
        &mut self,
        token_id: TokenId,
        key: &str,
        answer: &[u8],
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "UPDATE idempotency_keys SET answer = $4
             WHERE tenant_id = $1 AND token_id = $2 AND key = $3",
        )
        .bind(owner)
        .bind(token_id.to_string())
        .bind(key)
        .bind(answer)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The answer that was kept for `key`, wrapped.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key.
    pub async fn get_answer(
        &mut self,
        token_id: TokenId,
        key: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_scalar(
            "SELECT answer FROM idempotency_keys
             WHERE tenant_id = $1 AND token_id = $2 AND key = $3",
        )
        .bind(owner)
        .bind(token_id.to_string())
        .bind(key)
        .fetch_one(self.connection())
        .await?)
    }

    /// Gives back the keys that were claimed for a subject which never came to be.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_keys(&mut self, subject: &str) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query("DELETE FROM idempotency_keys WHERE tenant_id = $1 AND subject = $2")
            .bind(owner)
            .bind(subject)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
