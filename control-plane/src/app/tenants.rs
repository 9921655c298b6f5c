//! Making and listing tenants: the platform's only business.

use domain::access::Role;
use domain::ids::{TenantId, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

use super::tokens::DEFAULT_LIFETIME;
use super::{App, AppError, Caller};
use crate::ids;
use crate::store::{NewToken, StoreError, Tenant};
use crate::tokens;

/// A tenant that was made, with its first token.
#[derive(Serialize, Deserialize)]
pub struct CreatedTenant {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// The id of its owner's token.
    pub owner_token_id: TokenId,
    /// That token itself.
    pub owner_token: String,
}

impl App {
    /// Makes a tenant with its payload key and its first owner token.
    ///
    /// # Errors
    /// When the name is malformed or taken, or the caller is not the platform.
    pub async fn create_tenant(
        &self,
        caller: &Caller,
        name: &str,
        key: Option<&str>,
    ) -> Result<CreatedTenant, AppError> {
        check_tenant_name(name)?;
        let mut platform = caller.open_platform(self).await?;
        let id: TenantId = ids::new();
        let body = json!(["tenant", name]);
        let subject = id.to_string();
        let earlier = self.claim_answer(&mut platform, caller, key, &body, &subject).await?;
        if let Some(earlier) = earlier {
            return Ok(earlier);
        }
        let payload_key = sealing::Key::generate()
            .and_then(|key| self.keys.wrap(id, &key))
            .map_err(AppError::internal)?;
        let tenant =
            platform.insert_tenant(id, name, &payload_key).await.map_err(|error| match error {
                StoreError::Conflict(_) => AppError::Conflict {
                    code: "tenant_exists",
                    message: format!("there is a tenant named {name} already"),
                },
                error => error.into(),
            })?;
        let entry = caller.entry("tenant.create", id.to_string(), json!({ "name": name }));
        platform.append_audit(entry);
        let now = OffsetDateTime::now_utc();
        let signer = self.keys.tokens.signer();
        let token = tokens::issue(&signer, Role::Owner, Some(id), "owner", DEFAULT_LIFETIME, now)
            .map_err(AppError::internal)?;
        let created = CreatedTenant {
            id,
            name: tenant.name,
            created_at: tenant.created_at,
            owner_token_id: token.id,
            owner_token: token.secret,
        };
        self.keep_answer(&mut platform, caller, key, &created).await?;
        // One transaction: there is no tenant without an owner's token.
        platform.continue_as_tenant(id).await?;
        let mut scope = platform;
        let stored = NewToken {
            id: token.id,
            jti_hash: &token.jti_hash,
            name: "owner",
            role: Role::Owner,
            created_by: Some(caller.token_id),
            expires_at: token.expires_at,
        };
        scope.insert_token(&stored).await?;
        let detail = json!({ "name": "owner", "role": "owner" });
        scope.append_audit(caller.entry("token.create", token.id.to_string(), detail));
        scope.commit().await?;
        Ok(created)
    }

    /// Tenants, oldest first.
    ///
    /// # Errors
    /// When the caller is not the platform.
    pub async fn list_tenants(
        &self,
        caller: &Caller,
        after: Option<TenantId>,
        limit: i64,
    ) -> Result<Vec<Tenant>, AppError> {
        Ok(caller.open_platform(self).await?.list_tenants(after, limit).await?)
    }
}

/// A tenant's name is part of a queue's name, a folder's and a container's label.
fn check_tenant_name(name: &str) -> Result<(), AppError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if starts_well && name.len() <= 40 && name.bytes().all(plain) && name != "system" {
        return Ok(());
    }
    Err(AppError::invalid(
        "invalid_name",
        "name must be 1 to 40 lower-case letters, digits or dashes, and start with a letter",
    ))
}
