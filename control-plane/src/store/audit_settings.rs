//! What a tenant says about its audit log: which execs are reviewed, how long details stay. Versions
//! that never change; the highest of a kind is the active one.

use domain::ids::TokenId;
use sqlx::FromRow;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Scope, StoreError};

/// What a setting is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditSettingKind {
    /// Which execs are reviewed.
    Sampling,
    /// How long details stay.
    Retention,
}

impl AuditSettingKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Retention => "retention",
        }
    }
}

/// A version of a setting.
#[derive(Debug, Clone, FromRow)]
pub struct AuditSetting {
    /// Counts from 1.
    pub version: i64,
    /// What it says.
    pub value: Json<serde_json::Value>,
    /// Who put it, as the audit log names them.
    pub author: String,
    /// When.
    pub created_at: OffsetDateTime,
}

/// A version to be stored.
pub struct NewAuditSetting<'a> {
    /// What it is about.
    pub kind: AuditSettingKind,
    /// One more than the one before.
    pub version: i64,
    /// What it says.
    pub value: &'a serde_json::Value,
    /// The token that puts it.
    pub created_by: TokenId,
    /// How the audit log names it.
    pub author: &'a str,
}

impl Scope {
    /// The active version, if there is one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_audit_setting(
        &mut self,
        kind: AuditSettingKind,
    ) -> Result<Option<AuditSetting>, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_as(
            "SELECT version, value, author, created_at FROM audit_settings
             WHERE tenant_id = $1 AND kind = $2 ORDER BY version DESC LIMIT 1",
        )
        .bind(owner)
        .bind(kind.as_str())
        .fetch_optional(self.connection())
        .await?)
    }

    /// Stores a version; gives it as it stands.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when somebody else put that version meanwhile.
    pub async fn insert_audit_setting(
        &mut self,
        setting: &NewAuditSetting<'_>,
    ) -> Result<AuditSetting, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_as(
            "INSERT INTO audit_settings (tenant_id, kind, version, value, created_by, author)
             VALUES ($1, $2, $3, $4, $5, $6)
             RETURNING version, value, author, created_at",
        )
        .bind(owner)
        .bind(setting.kind.as_str())
        .bind(setting.version)
        .bind(Json(setting.value))
        .bind(setting.created_by.to_string())
        .bind(setting.author)
        .fetch_one(self.connection())
        .await?)
    }
}
