//! Signs grants: the permission to run exactly one order, once.

use domain::ids::ExecutorId;
use jsonwebtoken::{Algorithm, Header};
use protocol::checks::Checks;
use protocol::exec::ExecOrder;
use protocol::grant::{GrantClaims, ISSUER, order_digest};
use time::OffsetDateTime;

use crate::ids;
use crate::keys::Signer;

/// What a grant says of the decision behind it.
pub struct Permission {
    /// The policy version that decided.
    pub policy_version: i64,
    /// What has to be looked at before it starts.
    pub checks: Checks,
}

/// Signs a grant for `order`, to be run by one executor.
///
/// # Errors
/// When it cannot be signed.
pub fn sign(
    signer: &Signer,
    order: &ExecOrder,
    executor_id: ExecutorId,
    permission: Permission,
    now: OffsetDateTime,
) -> Result<String, jsonwebtoken::errors::Error> {
    let Permission { policy_version, checks } = permission;
    let now = now.unix_timestamp();
    let claims = GrantClaims {
        iss: ISSUER.into(),
        aud: GrantClaims::audience(&checks).into(),
        sub: order.exec_id,
        jti: ids::new(),
        iat: now,
        nbf: now,
        exp: now + domain::limits::GRANT_TTL_S,
        tenant_id: order.tenant_id,
        session_id: order.session_id,
        executor_id,
        order_sha256: order_digest(order),
        policy_version,
        checks_sha256: checks.digest(),
    };
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(signer.kid.clone());
    jsonwebtoken::encode(&header, &claims, &signer.encoding)
}
