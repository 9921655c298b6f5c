//! The header of a token, strictly: three fields with one spelling each. What a library would
//! ignore (`jku`, `jwk`, `crit`, …) is refused before anything is done with the rest.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// The `kid` of a token whose header is exactly as ours are.
pub(super) fn kid(jwt: &str) -> Option<String> {
    let (header, _) = jwt.split_once('.')?;
    let json = URL_SAFE_NO_PAD.decode(header).ok()?;
    let header: Header = serde_json::from_slice(&json).ok()?;
    (header.alg == "EdDSA" && header.typ == "JWT").then_some(header.kid)
}
