//! Making, listing and revoking a tenant's tokens.

use domain::access::{Operation, Role};
use domain::ids::TokenId;
use domain::limits::MAX_NAME_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{App, AppError, Caller};
use crate::store::{NewToken, Token};
use crate::tokens::{self, Issued, MAX_LIFETIME};

/// How long a token lives when nobody says otherwise.
pub(super) const DEFAULT_LIFETIME: Duration = Duration::days(90);
const MIN_LIFETIME: Duration = Duration::SECOND;

/// A token to be made.
pub struct CreateToken {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its lifetime in seconds.
    pub expires_in_s: Option<i64>,
}

/// A token that was made, with its secret.
#[derive(Serialize, Deserialize)]
pub struct CreatedToken {
    /// Its id.
    pub id: TokenId,
    /// The token itself.
    pub secret: String,
    /// Its role.
    pub role: Role,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

impl App {
    /// Makes a token in the caller's tenant.
    ///
    /// # Errors
    /// When the caller is no owner or a value is out of range.
    pub async fn create_token(
        &self,
        caller: &Caller,
        request: &CreateToken,
        key: Option<&str>,
    ) -> Result<CreatedToken, AppError> {
        let tenant_id = caller.authorize(Operation::ManageTokens)?;
        check_name(&request.name)?;
        let role = Role::from_name(&request.role)
            .filter(|role| role.is_issuable_by_owner())
            .ok_or_else(|| {
                AppError::invalid(
                    "invalid_role",
                    "role must be one of owner, agent, reviewer, viewer, executor",
                )
            })?;
        let lifetime = request.expires_in_s.map_or(DEFAULT_LIFETIME, Duration::seconds);
        if !(MIN_LIFETIME..=MAX_LIFETIME).contains(&lifetime) {
            return Err(AppError::invalid(
                "invalid_lifetime",
                "expires_in_s must be between 1 and 31536000 (one year)",
            ));
        }
        let now = OffsetDateTime::now_utc();
        let issued = tokens::issue(
            &self.keys.tokens.signer(),
            role,
            Some(tenant_id),
            &request.name,
            lifetime,
            now,
        )
        .map_err(AppError::internal)?;
        let mut scope = self.store.tenant(tenant_id).await?;
        let body = json!(["token", request.name, role, request.expires_in_s]);
        let id = issued.id.to_string();
        if let Some(earlier) = self.claim_answer(&mut scope, caller, key, &body, &id).await? {
            return Ok(earlier);
        }
        let stored = NewToken {
            id: issued.id,
            jti_hash: &issued.jti_hash,
            name: &request.name,
            role,
            created_by: Some(caller.token_id),
            expires_at: issued.expires_at,
        };
        scope.insert_token(&stored).await?;
        let detail = json!({ "name": request.name, "role": role.as_str() });
        scope.append_audit(caller.entry("token.create", id, detail));
        let Issued { id, secret, expires_at, .. } = issued;
        let created = CreatedToken { id, secret, role, expires_at };
        self.keep_answer(&mut scope, caller, key, &created).await?;
        scope.commit().await?;
        Ok(created)
    }

    /// The tokens of the caller's tenant, without secrets.
    ///
    /// # Errors
    /// When the caller is no owner.
    pub async fn list_tokens(
        &self,
        caller: &Caller,
        after: Option<TokenId>,
        limit: i64,
    ) -> Result<Vec<Token>, AppError> {
        Ok(caller.open(self, Operation::ManageTokens).await?.list_tokens(after, limit).await?)
    }

    /// Revokes a token of the caller's tenant.
    ///
    /// # Errors
    /// When the caller is no owner or there is no such token.
    pub async fn revoke_token(&self, caller: &Caller, id: TokenId) -> Result<(), AppError> {
        let mut scope = caller.open(self, Operation::ManageTokens).await?;
        scope.revoke_token(id).await.map_err(AppError::of("token"))?;
        scope.append_audit(caller.entry("token.revoke", id.to_string(), json!({})));
        scope.commit().await?;
        // Here at once; elsewhere with the next refresh, which is at most two seconds away.
        self.verifier.refresh(&self.store).await?;
        Ok(())
    }
}

/// A name is shown to people: printable, not empty, not long.
pub(super) fn check_name(name: &str) -> Result<(), AppError> {
    let printable = name.chars().all(|c| !c.is_control());
    if !name.trim().is_empty() && name.len() <= MAX_NAME_BYTES && printable {
        return Ok(());
    }
    Err(AppError::invalid(
        "invalid_name",
        format!("name must be 1 to {MAX_NAME_BYTES} bytes without control characters"),
    ))
}
