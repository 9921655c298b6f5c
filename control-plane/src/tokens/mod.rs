//! API tokens: `bh_` and a JWT (EdDSA). Made here, checked here, revocable.
//!
//! A request costs a signature check and a look into a set in memory, no query.

mod header;
mod revocations;
mod use_log;
mod verifier;

pub use use_log::UseLog;
pub use verifier::{Pass, Verifier};

use domain::access::Role;
use domain::ids::{TenantId, TokenId};
use jsonwebtoken::{Algorithm, Header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::ids;
use crate::keys::Signer;

/// What every token starts with, so that secret scanners find it.
pub const PREFIX: &str = "bh_";
const ISSUER: &str = "bulkhead";
const AUDIENCE: &str = "bulkhead-api";
/// Longest that a token may live.
pub const MAX_LIFETIME: time::Duration = time::Duration::days(365);

/// SHA-256 of a token's `jti`: what is stored of it.
pub type JtiHash = [u8; 32];

/// The claims of a token: all of them, and no others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    iss: String,
    aud: String,
    /// The token.
    pub sub: TokenId,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    /// What it is good for.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Whose it is; none for the platform's.
    pub tenant: Option<TenantId>,
}

/// A token that was just made. The secret is shown once.
pub struct Issued {
    /// Its id.
    pub id: TokenId,
    /// The token itself.
    pub secret: String,
    /// What is stored of it.
    pub jti_hash: JtiHash,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

/// Why a token is not accepted. Callers are told no more than that.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of ours, or not valid now.
    #[error("token is malformed, foreign, expired or not valid yet")]
    Invalid,
    /// It was revoked.
    #[error("token was revoked")]
    Revoked,
    /// Whether it was revoked cannot be told, because the database does not answer.
    #[error("revocations cannot be read")]
    Unknown,
    /// It could not be signed.
    #[error("token cannot be signed")]
    Sign,
}

/// Makes a token.
///
/// # Errors
/// When it cannot be signed.
pub fn issue(
    signer: &Signer,
    role: Role,
    tenant: Option<TenantId>,
    name: &str,
    lifetime: time::Duration,
    now: OffsetDateTime,
) -> Result<Issued, TokenError> {
    let id: TokenId = ids::new();
    let jti = uuid::Uuid::new_v4().simple().to_string();
    let expires_at = now + lifetime;
    let claims = Claims {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        sub: id,
        jti: jti.clone(),
        iat: now.unix_timestamp(),
        nbf: now.unix_timestamp(),
        exp: expires_at.unix_timestamp(),
        role,
        name: name.into(),
        tenant,
    };
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(signer.kid.clone());
    let jwt =
        jsonwebtoken::encode(&header, &claims, &signer.encoding).map_err(|_| TokenError::Sign)?;
    Ok(Issued { id, secret: format!("{PREFIX}{jwt}"), jti_hash: jti_hash(&jti), expires_at })
}

fn jti_hash(jti: &str) -> JtiHash {
    Sha256::digest(jti.as_bytes()).into()
}
