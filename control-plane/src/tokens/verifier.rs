//! Checks tokens: one algorithm, known keys, exactly our claims, not revoked.
//!
//! Revocations are read again every two seconds; while they cannot be read, nobody is let in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::access::Role;
use jsonwebtoken::{Algorithm, Validation};
use time::OffsetDateTime;

use super::revocations::Revocations;
use super::{AUDIENCE, Claims, ISSUER, JtiHash, MAX_LIFETIME, PREFIX, TokenError, UseLog};
use super::{header, jti_hash};
use crate::keys::Keys;
use crate::store::{Store, StoreError};

/// Clock difference between machines that is forgiven, in seconds.
const LEEWAY_S: u64 = 5;
/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 4096;
const REFRESH: Duration = Duration::from_secs(2);

/// What tells, without the token, whether it still opens: for what lives longer than a request.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    jti_hash: JtiHash,
    expires_at: i64,
}

/// See the module.
pub struct Verifier {
    keys: Arc<Keys>,
    validation: Validation,
    revocations: Revocations,
    use_log: UseLog,
}

impl Verifier {
    /// A verifier that knows no revocations yet and lets nobody in until it does.
    pub fn new(keys: Arc<Keys>) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_S;
        let (revocations, use_log) = (Revocations::default(), UseLog::default());
        Self { keys, validation, revocations, use_log }
    }

    /// Checks a token as it stood in the request.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(&self, secret: &str) -> Result<(Claims, Pass), TokenError> {
        let claims = self.read(secret, OffsetDateTime::now_utc()).ok_or(TokenError::Invalid)?;
        let pass = Pass { jti_hash: jti_hash(&claims.jti), expires_at: claims.exp };
        self.revocations.check(&pass.jti_hash)?;
        self.use_log.note(claims.tenant, claims.sub);
        Ok((claims, pass))
    }

    fn read(&self, secret: &str, now: OffsetDateTime) -> Option<Claims> {
        let jwt = secret.strip_prefix(PREFIX).filter(|jwt| jwt.len() <= MAX_TOKEN_BYTES)?;
        let key = self.keys.tokens.find(&header::kid(jwt)?)?;
        let decoded = jsonwebtoken::decode(jwt, &key.decoding, &self.validation);
        let claims: Claims = decoded.ok()?.claims;
        let latest_start = now.unix_timestamp() + LEEWAY_S as i64;
        let sensible = claims.iat <= latest_start
            && claims.iat <= claims.exp
            && claims.exp.checked_sub(claims.iat)? <= MAX_LIFETIME.whole_seconds()
            && claims.tenant.is_none() == (claims.role == Role::Platform);
        sensible.then_some(claims)
    }

    /// Checks again what [`Self::verify`] let in.
    ///
    /// # Errors
    /// When it has run out, was revoked meanwhile, or that cannot be told.
    pub fn recheck(&self, pass: &Pass) -> Result<(), TokenError> {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        if pass.expires_at.saturating_add(LEEWAY_S as i64) < now {
            return Err(TokenError::Invalid);
        }
        self.revocations.check(&pass.jti_hash)
    }

    /// Whether revocations are known well enough to let anybody in.
    pub fn is_ready(&self) -> bool {
        self.revocations.is_fresh()
    }

    /// Reads the revocations again, now.
    ///
    /// # Errors
    /// When the database fails; what was known before stays known.
    pub async fn refresh(&self, store: &Store) -> Result<(), StoreError> {
        let read_at = Instant::now();
        self.revocations.replace(store.list_revocations().await?, read_at);
        Ok(())
    }

    /// Keeps revocations fresh for as long as the process lives.
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

    /// Writes down which tokens were used, for as long as the process lives.
    pub async fn keep_use_log(self: Arc<Self>, store: Store) {
        self.use_log.keep_written(&store).await;
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
