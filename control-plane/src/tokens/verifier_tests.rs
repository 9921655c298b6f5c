//! Forged and malformed tokens: none of them opens anything.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domain::access::Role;
use ed25519_dalek::{Signer as _, SigningKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::Verifier;
use crate::keys::{KeyRing, Keys, Purpose};
use crate::tokens::{TokenError, issue};
use crate::{ids, tokens};

struct Site {
    verifier: Verifier,
    keys: Arc<Keys>,
    key: SigningKey,
    folder: std::path::PathBuf,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn site(name: &str) -> Site {
    let folder = std::env::temp_dir().join(format!("bulkhead-{name}-{}", std::process::id()));
    Keys::create_missing(&folder).expect("keys");
    let keys = Arc::new(Keys::load(&folder).expect("keys"));
    let seed = std::fs::read(folder.join("token.key")).expect("a key");
    let key = SigningKey::from_bytes(&seed.try_into().expect("32 bytes"));
    let verifier = Verifier::new(keys.clone());
    verifier.revocations.replace(Vec::new(), Instant::now());
    Site { verifier, keys, key, folder }
}

fn base64(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

impl Site {
    fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": "EdDSA", "kid": self.keys.tokens.signer().kid })
    }

    fn claims(&self) -> Value {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        json!({
            "iss": "bulkhead", "aud": "bulkhead-api", "sub": format!("tok_{:032x}", 7),
            "jti": "a", "iat": now, "nbf": now, "exp": now + 60, "role": "agent",
            "name": "forged", "tenant": format!("ten_{:032x}", 8),
        })
    }

    /// A token with these very texts, signed with the right key.
    fn signed(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64(header), base64(claims));
        let signature = self.key.sign(message.as_bytes());
        format!("bh_{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    /// A token with one field of its header changed, or left out.
    fn header_with(&self, name: &str, value: Option<Value>) -> String {
        self.signed(&changed(self.header(), name, value), &self.claims().to_string())
    }

    /// A token with one claim changed, or left out.
    fn claim_with(&self, name: &str, value: Option<Value>) -> String {
        self.signed(&self.header().to_string(), &changed(self.claims(), name, value))
    }

    fn outcome(&self, token: &str) -> Result<Role, TokenError> {
        self.verifier.verify(token).map(|(claims, _)| claims.role)
    }
}

fn changed(mut object: Value, name: &str, value: Option<Value>) -> String {
    let fields = object.as_object_mut().expect("an object");
    match value {
        Some(value) => fields.insert(name.into(), value),
        None => fields.remove(name),
    };
    object.to_string()
}

/// Signatures by others, and signatures of another kind.
fn foreign(site: &Site) -> Vec<(&'static str, String)> {
    let claims = site.claims();
    let public = site.keys.tokens.signer().public;
    let with = |algorithm, key: &EncodingKey| {
        let mut header = Header::new(algorithm);
        header.kid = Some(site.keys.tokens.signer().kid.clone());
        let jwt = jsonwebtoken::encode(&header, &claims, key).expect("encodes");
        format!("bh_{jwt}")
    };
    let other = SigningKey::from_bytes(&[7; 32]);
    let message = format!("{}.{}", base64(&site.header().to_string()), base64(&claims.to_string()));
    let stranger = URL_SAFE_NO_PAD.encode(other.sign(message.as_bytes()).to_bytes());
    let unsigned = base64(&json!({ "typ": "JWT", "alg": "none" }).to_string());
    vec![
        ("HS256 with the public key", with(Algorithm::HS256, &EncodingKey::from_secret(&public))),
        ("HS512 with nothing", with(Algorithm::HS512, &EncodingKey::from_secret(b""))),
        ("EdDSA by another key", format!("bh_{message}.{stranger}")),
        ("the grant key", with(Algorithm::EdDSA, &site.keys.grants.signer().encoding)),
        ("alg none, no signature", format!("bh_{unsigned}.{}.", base64(&claims.to_string()))),
        ("signature stripped", format!("bh_{message}.")),
        ("signature of zeros", format!("bh_{message}.{}", URL_SAFE_NO_PAD.encode([0_u8; 64]))),
    ]
}

/// Right signatures under a wrong header.
fn headers(site: &Site) -> Vec<(&'static str, String)> {
    let kid = site.keys.tokens.signer().kid.clone();
    let twice = format!(r#"{{"typ":"JWT","alg":"EdDSA","alg":"none","kid":"{kid}"}}"#);
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" });
    vec![
        ("alg missing", site.header_with("alg", None)),
        ("alg none", site.header_with("alg", Some(json!("none")))),
        ("alg in lower case", site.header_with("alg", Some(json!("eddsa")))),
        ("alg Ed25519", site.header_with("alg", Some(json!("Ed25519")))),
        ("alg ES256", site.header_with("alg", Some(json!("ES256")))),
        ("alg a list", site.header_with("alg", Some(json!(["EdDSA"])))),
        ("alg twice", site.signed(&twice, &site.claims().to_string())),
        ("typ missing", site.header_with("typ", None)),
        ("typ of another kind", site.header_with("typ", Some(json!("at+jwt")))),
        ("kid missing", site.header_with("kid", None)),
        ("kid unknown", site.header_with("kid", Some(json!("0123456789abcdef")))),
        ("kid a path", site.header_with("kid", Some(json!("../../dev/null")))),
        ("kid SQL", site.header_with("kid", Some(json!("' OR 1=1 --")))),
        ("kid a URL", site.header_with("kid", Some(json!("https://example.org/k")))),
        ("kid a list", site.header_with("kid", Some(json!([kid])))),
        ("jku", site.header_with("jku", Some(json!("https://example.org/jwks")))),
        ("x5u", site.header_with("x5u", Some(json!("https://example.org/x5u")))),
        ("jwk", site.header_with("jwk", Some(jwk))),
        ("crit", site.header_with("crit", Some(json!(["exp"])))),
        ("header no object", site.signed("[]", &site.claims().to_string())),
    ]
}

/// Right signatures over wrong claims.
fn claims(site: &Site) -> Vec<(&'static str, String)> {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let claim = |name: &str, value: Value| site.claim_with(name, Some(value));
    let twice = site.claims().to_string().replacen('{', r#"{"role":"owner","#, 1);
    vec![
        ("exp missing", site.claim_with("exp", None)),
        ("exp a text", claim("exp", json!((now + 60).to_string()))),
        ("exp a fraction", claim("exp", json!(now as f64 + 60.5))),
        (
            "exp 1e30",
            site.signed(
                &site.header().to_string(),
                &site.claims().to_string().replace(&(now + 60).to_string(), "1e30"),
            ),
        ),
        ("exp null", claim("exp", Value::Null)),
        ("exp negative", claim("exp", json!(-1))),
        ("exp the last number", claim("exp", json!(i64::MAX))),
        ("exp in a hundred years", claim("exp", json!(now + 100 * 365 * 86_400))),
        ("exp over, past the leeway", claim("exp", json!(now - 7))),
        ("nbf missing", site.claim_with("nbf", None)),
        ("nbf ahead, past the leeway", claim("nbf", json!(now + 8))),
        ("nbf a text", claim("nbf", json!("0"))),
        ("iat missing", site.claim_with("iat", None)),
        ("iat ahead", claim("iat", json!(now + 3600))),
        ("iat the first number", claim("iat", json!(i64::MIN))),
        ("iss missing", site.claim_with("iss", None)),
        ("iss of another", claim("iss", json!("bulkhead-staging"))),
        ("iss a list", claim("iss", json!(["bulkhead"]))),
        ("aud missing", site.claim_with("aud", None)),
        ("aud of the grants", claim("aud", json!("bulkhead-executor"))),
        ("aud ours and another", claim("aud", json!(["bulkhead-api", "other"]))),
        ("sub missing", site.claim_with("sub", None)),
        ("sub of another kind", claim("sub", json!(format!("ses_{:032x}", 7)))),
        ("jti missing", site.claim_with("jti", None)),
        ("role missing", site.claim_with("role", None)),
        ("role unknown", claim("role", json!("root"))),
        ("role in upper case", claim("role", json!("Owner"))),
        ("role twice", site.signed(&site.header().to_string(), &twice)),
        ("platform with a tenant", claim("role", json!("platform"))),
        ("agent without a tenant", site.claim_with("tenant", None)),
        ("tenant no id", claim("tenant", json!("acme"))),
        ("tenant a list", claim("tenant", json!([format!("ten_{:032x}", 8)]))),
        ("a claim more", claim("scope", json!("all"))),
        ("claims no object", site.signed(&site.header().to_string(), "[]")),
        ("claims no JSON", site.signed(&site.header().to_string(), "{")),
    ]
}

/// A good token, damaged.
fn shapes(good: &str) -> Vec<(&'static str, String)> {
    let jwt = good.trim_start_matches("bh_");
    let parts: Vec<&str> = jwt.split('.').collect();
    let classic = STANDARD.encode(URL_SAFE_NO_PAD.decode(parts[1]).expect("base64"));
    vec![
        ("nothing", String::new()),
        ("the prefix alone", "bh_".into()),
        ("without the prefix", jwt.into()),
        ("another prefix", format!("gh_{jwt}")),
        ("the prefix in upper case", format!("BH_{jwt}")),
        ("the prefix twice", format!("bh_{good}")),
        ("two segments", format!("bh_{}.{}", parts[0], parts[1])),
        ("four segments", format!("{good}.{}", parts[2])),
        ("cut short", good[..good.len() - 1].into()),
        ("padded", format!("{good}==")),
        ("a blank in front", format!(" {good}")),
        ("a line end behind", format!("{good}\n")),
        ("not URL-safe", format!("bh_{}.{classic}+/.{}", parts[0], parts[2])),
        ("not base64", format!("bh_{}.\u{fffd}.{}", parts[0], parts[2])),
        ("a megabyte", format!("{good}{}", "A".repeat(1 << 20))),
    ]
}

#[test]
fn nothing_forged_or_malformed_opens() {
    let site = site("forged");
    let header = site.header().to_string();
    let good = site.signed(&header, &site.claims().to_string());
    assert_eq!(site.outcome(&good), Ok(Role::Agent), "the tokens below fail for their own reason");
    let rows = [foreign(&site), headers(&site), claims(&site), shapes(&good)].concat();
    assert!(rows.len() >= 70, "{}", rows.len());
    for (what, token) in rows {
        assert_eq!(site.outcome(&token), Err(TokenError::Invalid), "{what}");
    }
}

#[test]
fn the_leeway_is_five_seconds() {
    let site = site("leeway");
    let now = OffsetDateTime::now_utc().unix_timestamp();
    for (claim, value) in [("exp", now - 3), ("nbf", now + 3)] {
        let mut claims = site.claims();
        claims["iat"] = json!(now - 60);
        let claims = changed(claims, claim, Some(json!(value)));
        let token = site.signed(&site.header().to_string(), &claims);
        assert_eq!(site.outcome(&token), Ok(Role::Agent), "{claim}");
    }
}

#[test]
fn a_revoked_token_is_refused_and_nobody_is_let_in_blindly() {
    let site = site("revoked");
    let now = OffsetDateTime::now_utc();
    let signer = site.keys.tokens.signer();
    let tenant = Some(ids::new());
    let issued = issue(&signer, Role::Owner, tenant, "o", Duration::HOUR, now).expect("issues");
    let (_, pass) = site.verifier.verify(&issued.secret).expect("is good");
    assert_eq!(site.verifier.recheck(&pass), Ok(()));
    site.verifier.revocations.replace(vec![issued.jti_hash.to_vec()], Instant::now());
    assert_eq!(site.outcome(&issued.secret), Err(TokenError::Revoked));
    assert_eq!(site.verifier.recheck(&pass), Err(TokenError::Revoked));
    let blind = Verifier::new(site.keys.clone());
    assert_eq!(blind.verify(&issued.secret).err(), Some(TokenError::Unknown));
}

#[test]
fn a_token_of_the_old_key_lives_until_the_key_is_retired() {
    let site = site("rotation");
    let now = OffsetDateTime::now_utc();
    let make = || {
        let signer = site.keys.tokens.signer();
        tokens::issue(&signer, Role::Agent, Some(ids::new()), "a", Duration::HOUR, now)
            .expect("issues")
            .secret
    };
    let old = make();
    KeyRing::prepare(&site.folder, Purpose::Tokens).expect("prepares");
    KeyRing::activate(&site.folder, Purpose::Tokens).expect("activates");
    site.keys.tokens.reload().expect("reloads");
    let new = make();
    assert_eq!(site.outcome(&old), Ok(Role::Agent));
    assert_eq!(site.outcome(&new), Ok(Role::Agent));
    KeyRing::retire(&site.folder, Purpose::Tokens).expect("retires");
    site.keys.tokens.reload().expect("reloads");
    assert_eq!(site.outcome(&old), Err(TokenError::Invalid));
    assert_eq!(site.outcome(&new), Ok(Role::Agent));
}
