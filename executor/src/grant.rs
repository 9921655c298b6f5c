//! The gate: a request passes only with a grant signed by the control plane for exactly this
//! order, of this tenant, on this executor. Refuses everything else, without quoting any of it.

use std::sync::Arc;

use domain::ids::{ExecutorId, TenantId};
use jsonwebtoken::{Algorithm, Validation, decode};
use protocol::checks::Checks;
use protocol::exec::{ExecOrder, ToolRequest, order_context};
use protocol::grant::{AUDIENCE, AUDIENCE_CHECKED, GrantClaims, ISSUER, order_digest};
use sealing::{Key, SealError};

use crate::grant_keys::GrantKeys;

/// How far the control plane's clock may be from ours, in seconds.
const LEEWAY_S: i64 = 5;

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not signed by the control plane for an executor, or malformed.
    #[error("the grant is not valid")]
    Grant(#[source] jsonwebtoken::errors::Error),
    /// Signed with a key that the control plane does not have, or has no more.
    #[error("the grant is signed with an unknown key")]
    UnknownKey,
    /// Made for a later time.
    #[error("the grant is not valid yet")]
    NotYetValid,
    /// The grant says two things of how it has to run.
    #[error("the grant's audience does not fit its folders")]
    OtherAudience,
    /// The grant is for another exec.
    #[error("the grant is for another exec")]
    OtherExec,
    /// The grant is for another tenant.
    #[error("the grant is for another tenant")]
    OtherTenant,
    /// The grant is for another executor.
    #[error("the grant is for another executor")]
    OtherExecutor,
    /// The order cannot be opened.
    #[error("the order cannot be opened")]
    Order(#[source] SealError),
    /// The order is not the one that was decided upon.
    #[error("the order is not the granted one")]
    OtherOrder,
    /// The order asks for what no sandbox can have.
    #[error("the order's limits are impossible")]
    Limits(#[source] domain::limits::LimitOutOfRange),
}

/// An order that may run.
pub struct Admitted {
    /// The order, byte for byte the granted one.
    pub order: ExecOrder,
    /// Its digest.
    pub order_sha256: String,
    /// The grant is over. Only matters when the exec was not started before.
    pub expired: bool,
    /// What has to be looked at before it starts.
    pub checks: Checks,
}

/// See the module.
pub struct Gate {
    executor_id: ExecutorId,
    tenant_id: TenantId,
    payload_key: Key,
    keys: Arc<GrantKeys>,
    validation: Validation,
}

impl Gate {
    /// A gate for one tenant's executor, that lets in what one of the `keys` has signed.
    pub fn new(
        executor_id: ExecutorId,
        tenant_id: TenantId,
        payload_key: Key,
        keys: Arc<GrantKeys>,
    ) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE, AUDIENCE_CHECKED]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        // Times are checked below: an exec that has started outlives its grant.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self { executor_id, tenant_id, payload_key, keys, validation }
    }

    fn read(&self, grant: &str) -> Result<GrantClaims, Refusal> {
        let mut refusal = Refusal::UnknownKey;
        for key in self.keys.candidates(grant) {
            match decode::<GrantClaims>(grant, &key, &self.validation) {
                Ok(read) => return Ok(read.claims),
                Err(error) => refusal = Refusal::Grant(error),
            }
        }
        Err(refusal)
    }

    /// Checks a request at `now_s` (seconds since the epoch).
    ///
    /// # Errors
    /// Says which check failed first.
    pub fn admit(&self, request: &ToolRequest, now_s: i64) -> Result<Admitted, Refusal> {
        let claims = self.read(&request.grant)?;
        if claims.nbf > now_s.saturating_add(LEEWAY_S) {
            return Err(Refusal::NotYetValid);
        }
        if claims.sub != request.exec_id {
            return Err(Refusal::OtherExec);
        }
        if claims.tenant_id != self.tenant_id {
            return Err(Refusal::OtherTenant);
        }
        if claims.executor_id != self.executor_id {
            return Err(Refusal::OtherExecutor);
        }
        let context = order_context(request.exec_id);
        let mut order = sealing::open(&self.payload_key, self.tenant_id, &context, &request.order)
            .map_err(Refusal::Order)?;
        let checks = std::mem::take(&mut order.checks);
        if claims.aud != GrantClaims::audience(&checks) {
            return Err(Refusal::OtherAudience);
        }
        if claims.checks_sha256 != checks.digest() {
            return Err(Refusal::OtherOrder);
        }
        let order_sha256 = order_digest(&order);
        let same = order_sha256 == claims.order_sha256
            && order.tenant_id == claims.tenant_id
            && order.session_id == claims.session_id
            && order.exec_id == claims.sub;
        if !same {
            return Err(Refusal::OtherOrder);
        }
        order.limits.validate().map_err(Refusal::Limits)?;
        let expired = claims.exp < now_s.saturating_sub(LEEWAY_S);
        Ok(Admitted { order, order_sha256, expired, checks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::limits::SandboxLimits;
    use ed25519_dalek::SigningKey;
    use ed25519_dalek::pkcs8::EncodePrivateKey as _;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use protocol::checks::NamedPath;
    use protocol::exec::Intent;
    use sha2::Digest as _;
    use uuid::Uuid;

    const NOW: i64 = 1_000_000;

    struct Signer {
        signing: SigningKey,
        payload: Key,
    }

    impl Signer {
        fn new() -> Self {
            Self {
                signing: SigningKey::from_bytes(&[7; 32]),
                payload: Key::from_bytes(&[9; 32]).expect("32 bytes"),
            }
        }

        fn gate(&self) -> Gate {
            let public = self.signing.verifying_key().to_bytes();
            let executor = Uuid::from_u128(5).into();
            let keys = Arc::new(GrantKeys::new(public));
            Gate::new(executor, Uuid::from_u128(1).into(), self.payload.clone(), keys)
        }

        fn sign(&self, claims: &GrantClaims, header: &Header) -> String {
            let der = self.signing.to_pkcs8_der().expect("pkcs8");
            encode(header, claims, &EncodingKey::from_ed_der(der.as_bytes())).expect("signs")
        }

        fn request(&self, change: impl FnOnce(&mut GrantClaims, &mut ExecOrder)) -> ToolRequest {
            let (mut claims, mut order) = (claims(), order());
            claims.order_sha256 = order_digest(&order);
            change(&mut claims, &mut order);
            let context = order_context(order.exec_id);
            ToolRequest {
                exec_id: order.exec_id,
                intent: Intent::Run,
                grant: self.sign(&claims, &Header::new(Algorithm::EdDSA)),
                order: sealing::seal(&self.payload, order.tenant_id, &context, &order)
                    .expect("seals"),
                traceparent: None,
            }
        }
    }

    fn order() -> ExecOrder {
        ExecOrder {
            tenant_id: Uuid::from_u128(1).into(),
            session_id: Uuid::from_u128(2).into(),
            exec_id: Uuid::from_u128(3).into(),
            command: "echo a".into(),
            cwd: "/work".into(),
            env: [].into(),
            stdin: None,
            stdin_open: false,
            terminal: None,
            min_generation: 1,
            checks: Default::default(),
            kind: protocol::exec::ExecKind::Shell,
            timeout_ms: 1000,
            limits: SandboxLimits::default(),
            image_digest: "sha256:0".into(),
        }
    }

    fn claims() -> GrantClaims {
        GrantClaims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: Uuid::from_u128(3).into(),
            jti: Uuid::from_u128(4).into(),
            iat: NOW,
            nbf: NOW,
            exp: NOW + 300,
            tenant_id: Uuid::from_u128(1).into(),
            session_id: Uuid::from_u128(2).into(),
            executor_id: Uuid::from_u128(5).into(),
            order_sha256: String::new(),
            policy_version: 1,
            checks_sha256: None,
        }
    }

    #[test]
    fn a_genuine_grant_admits_its_order() {
        let signer = Signer::new();
        let admitted = signer.gate().admit(&signer.request(|_, _| {}), NOW).expect("admitted");
        assert_eq!(admitted.order, order());
        assert!(!admitted.expired);
    }

    #[test]
    fn a_grant_names_its_key_and_one_that_is_not_known_is_told_apart() {
        let signer = Signer::new();
        let with_kid = |kid: &str| {
            let mut claims = claims();
            claims.order_sha256 = order_digest(&order());
            let mut header = Header::new(Algorithm::EdDSA);
            header.kid = Some(kid.into());
            let grant = signer.sign(&claims, &header);
            signer.gate().admit(&ToolRequest { grant, ..signer.request(|_, _| {}) }, NOW)
        };
        let public = signer.signing.verifying_key().to_bytes();
        let kid = &protocol::grant::hex(&sha2::Sha256::digest(public))[..16];
        assert!(with_kid(kid).is_ok());
        // It may be a new one: nothing is said of its exec until the key set is read.
        assert!(matches!(with_kid("0123456789abcdef"), Err(Refusal::UnknownKey)));
        let stranger = Signer { signing: SigningKey::from_bytes(&[8; 32]), ..Signer::new() };
        let mut claims = claims();
        claims.order_sha256 = order_digest(&order());
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid.to_owned());
        let grant = stranger.sign(&claims, &header);
        let forged = ToolRequest { grant, ..signer.request(|_, _| {}) };
        assert!(matches!(signer.gate().admit(&forged, NOW), Err(Refusal::Grant(_))));
    }

    #[test]
    fn checks_come_with_their_digest_and_an_audience_of_their_own() {
        let signer = Signer::new();
        let named = || NamedPath { path: "/work/a".into(), follows_links: false };
        let checks = Checks { git_folders: vec!["/work".into()], paths: vec![named()] };
        let with_checks = |claims: &mut GrantClaims, order: &mut ExecOrder| {
            order.checks = checks.clone();
            claims.checks_sha256 = checks.digest();
            claims.aud = AUDIENCE_CHECKED.into();
        };
        let admitted = signer.gate().admit(&signer.request(with_checks), NOW).expect("admitted");
        assert_eq!(admitted.checks, checks);
        let changes: [fn(&mut GrantClaims, &mut ExecOrder); 6] = [
            |_, order| order.checks = Checks::default(),
            |_, order| order.checks.git_folders.clear(),
            |_, order| order.checks.paths[0].path.push('b'),
            |_, order| order.checks.paths[0].follows_links = true,
            |claims, _| claims.checks_sha256 = None,
            |claims, _| claims.aud = AUDIENCE.into(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let request = signer.request(|claims, order| {
                with_checks(claims, order);
                change(claims, order);
            });
            assert!(signer.gate().admit(&request, NOW).is_err(), "change {index}");
        }
    }

    #[test]
    fn expiry_is_reported_with_a_little_leeway() {
        let signer = Signer::new();
        let expired =
            |now| signer.gate().admit(&signer.request(|_, _| {}), now).expect("ok").expired;
        assert!(!expired(NOW + 300 + LEEWAY_S));
        assert!(expired(NOW + 301 + LEEWAY_S));
        let early = signer.gate().admit(&signer.request(|_, _| {}), NOW - 60);
        assert!(matches!(early, Err(Refusal::NotYetValid)));
    }

    #[test]
    fn any_difference_between_grant_and_order_is_refused() {
        let signer = Signer::new();
        let changes: [fn(&mut GrantClaims, &mut ExecOrder); 12] = [
            |claims, _| claims.checks_sha256 = Some("00".into()),
            |claims, _| claims.aud = AUDIENCE_CHECKED.into(),
            |_, order| order.command.push(' '),
            |_, order| order.cwd = "/".into(),
            |_, order| order.exec_id = Uuid::from_u128(9).into(),
            |_, order| order.session_id = Uuid::from_u128(9).into(),
            |claims, _| claims.sub = Uuid::from_u128(9).into(),
            |claims, _| claims.tenant_id = Uuid::from_u128(9).into(),
            |claims, _| claims.session_id = Uuid::from_u128(9).into(),
            |claims, _| claims.executor_id = Uuid::from_u128(9).into(),
            |claims, _| claims.aud = "bulkhead-cli".into(),
            |claims, _| claims.iss = "somebody".into(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let request = signer.request(change);
            assert!(signer.gate().admit(&request, NOW).is_err(), "change {index}");
        }
    }

    #[test]
    fn a_foreign_signature_and_other_algorithms_are_refused() {
        let signer = Signer::new();
        let stranger = Signer { signing: SigningKey::from_bytes(&[8; 32]), ..Signer::new() };
        assert!(signer.gate().admit(&stranger.request(|_, _| {}), NOW).is_err());

        let mut request = signer.request(|_, _| {});
        let mut body = claims();
        body.order_sha256 = order_digest(&order());
        let secret = signer.signing.verifying_key().to_bytes();
        let hs256 =
            encode(&Header::new(Algorithm::HS256), &body, &EncodingKey::from_secret(&secret));
        request.grant = hs256.expect("signs");
        assert!(matches!(signer.gate().admit(&request, NOW), Err(Refusal::Grant(_))));
    }
}
