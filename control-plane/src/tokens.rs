//! API tokens: `bh_` and a JWT (EdDSA). Made here, checked here, revocable.
//!
//! A request costs a signature check and a look into a set in memory, no query. The set of revoked
//! tokens is read again every two seconds; while it cannot be read, requests are refused.

use std::collections::HashSet;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use domain::access::Role;
use domain::ids::{TenantId, TokenId};
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::ids;
use crate::keys::Signer;
use crate::store::Store;

/// What every token starts with, so that secret scanners find it.
pub const PREFIX: &str = "bh_";
const ISSUER: &str = "bulkhead";
const AUDIENCE: &str = "bulkhead-api";
/// Clock difference between machines that is forgiven, in seconds.
const LEEWAY_S: u64 = 5;
/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 4096;
const REFRESH: Duration = Duration::from_secs(2);
/// How old the set of revocations may be before nobody is let in.
const MAX_STALENESS: Duration = Duration::from_secs(5);

/// The claims of a token.
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
    /// SHA-256 of its `jti`.
    pub jti_hash: Vec<u8>,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

/// Why a token is not accepted. Callers are told no more than that.
#[derive(Debug, thiserror::Error)]
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
    let jti = uuid::Uuid::now_v7().simple().to_string();
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
    let jwt = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &signer.encoding)
        .map_err(|_| TokenError::Sign)?;
    Ok(Issued { id, secret: format!("{PREFIX}{jwt}"), jti_hash: jti_hash(&jti), expires_at })
}

fn jti_hash(jti: &str) -> Vec<u8> {
    Sha256::digest(jti.as_bytes()).to_vec()
}

impl Revoked {
    fn is_fresh(&self) -> bool {
        self.read_at.is_some_and(|at| at.elapsed() <= MAX_STALENESS)
    }
}

/// Checks tokens.
pub struct Verifier {
    signer_key: jsonwebtoken::DecodingKey,
    validation: Validation,
    revoked: RwLock<Revoked>,
}

struct Revoked {
    hashes: HashSet<Vec<u8>>,
    read_at: Option<Instant>,
}

impl Verifier {
    /// A verifier that knows no revocations yet and lets nobody in until it does.
    pub fn new(signer: &Signer) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_S;
        Self {
            signer_key: signer.decoding.clone(),
            validation,
            revoked: RwLock::new(Revoked { hashes: HashSet::new(), read_at: None }),
        }
    }

    /// Checks a token as it stood in the request.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(&self, secret: &str) -> Result<Claims, TokenError> {
        let jwt = secret
            .strip_prefix(PREFIX)
            .filter(|jwt| jwt.len() <= MAX_TOKEN_BYTES)
            .ok_or(TokenError::Invalid)?;
        let claims: Claims = jsonwebtoken::decode(jwt, &self.signer_key, &self.validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        if claims.tenant.is_none() != (claims.role == Role::Platform) {
            return Err(TokenError::Invalid);
        }
        let revoked = self.revoked.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !revoked.is_fresh() {
            return Err(TokenError::Unknown);
        }
        if revoked.hashes.contains(&jti_hash(&claims.jti)) {
            return Err(TokenError::Revoked);
        }
        Ok(claims)
    }

    /// Whether revocations are known well enough to let anybody in.
    pub fn is_ready(&self) -> bool {
        self.revoked.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_fresh()
    }

    /// Reads the revocations again, now.
    ///
    /// # Errors
    /// When the database fails; what was known before stays known.
    pub async fn refresh(&self, store: &Store) -> Result<(), crate::store::StoreError> {
        let read_at = Instant::now();
        let hashes = store.list_revocations().await?.into_iter().collect();
        let mut revoked = self.revoked.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *revoked = Revoked { hashes, read_at: Some(read_at) };
        Ok(())
    }

    /// Keeps the revocations fresh for as long as the process lives.
    pub async fn keep_fresh(self: Arc<Self>, store: Store) {
        let mut failing = false;
        loop {
            match self.refresh(&store).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "revocations cannot be read; requests are refused");
                }
                Err(_) => {}
            }
            tokio::time::sleep(if failing { REFRESH / 8 } else { REFRESH }).await;
        }
    }
}
