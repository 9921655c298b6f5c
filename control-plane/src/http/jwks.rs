//! The public halves of the keys that sign tokens and grants, as a JSON Web Key Set (RFC 7517,
//! RFC 8037). Which key a signature is by, its `kid` tells.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::keys::{Purpose, Signer};

/// A set of public keys.
#[derive(Serialize, ToSchema)]
pub struct KeySet {
    keys: Vec<PublicKey>,
}

/// One public key.
#[derive(Serialize, ToSchema)]
struct PublicKey {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    r#use: &'static str,
    kid: String,
    /// The key itself, in base64url.
    x: String,
    /// `token` or `grant`: what it signs, and nothing else.
    purpose: &'static str,
}

impl PublicKey {
    fn new(signer: &Signer, purpose: &'static str) -> Self {
        Self {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            r#use: "sig",
            kid: signer.kid.clone(),
            x: URL_SAFE_NO_PAD.encode(signer.public),
            purpose,
        }
    }
}

/// The keys that verify tokens and grants.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", operation_id = "get_keys", tag = "operations",
    security(()),
    responses((status = 200, body = KeySet)),
)]
pub async fn keys(State(app): State<App>) -> Json<KeySet> {
    let rings = [(&app.keys.tokens, Purpose::Tokens), (&app.keys.grants, Purpose::Grants)];
    let keys = rings.into_iter().flat_map(|(ring, purpose)| {
        let all = ring.all();
        all.into_iter().map(move |signer| PublicKey::new(&signer, purpose.as_str()))
    });
    Json(KeySet { keys: keys.collect() })
}
