//! The tenants of a data folder and their tokens: made through the API like anybody's, kept for
//! the next start.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::layout::Layout;
use super::{DevError, secrets};
use crate::client::{Client, Page, Token};
use crate::dev_file::TenantTokens;

const DEFAULTS: [&str; 2] = ["acme", "globex"];
/// The roles that a tenant's first token makes tokens of.
const ROLES: [&str; 5] = ["owner", "agent", "reviewer", "viewer", "executor"];
/// Where the token that a tenant is born with is kept. It lives for 90 days only.
const FIRST: &str = "first";
/// The longest that the control plane allows: a development folder may lie unused for months.
const LIFETIME_S: u64 = 365 * 24 * 60 * 60;
const MAX_NAME_BYTES: usize = 64;

/// A tenant's tokens by role.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Tokens(BTreeMap<String, String>);

impl Tokens {
    /// The token of a role.
    pub(super) fn get(&self, role: &str) -> Result<&str, DevError> {
        let missing = || DevError::Garbled { what: format!("the kept token of the {role}") };
        self.0.get(role).map(String::as_str).ok_or_else(missing)
    }

    fn missing(&self) -> Vec<&'static str> {
        ROLES.into_iter().filter(|&role| !self.0.contains_key(role)).collect()
    }

    /// Those that `dev.json` shows: an executor's is none of them.
    pub(super) fn public(&self) -> Result<TenantTokens, DevError> {
        Ok(TenantTokens {
            owner_token: self.get("owner")?.into(),
            agent_token: self.get("agent")?.into(),
            reviewer_token: self.get("reviewer")?.into(),
            viewer_token: self.get("viewer")?.into(),
        })
    }
}

/// What is known of all tenants.
pub(super) struct Provision {
    /// Manages tenants.
    pub(super) platform_token: String,
    /// The tenants of this start.
    pub(super) tenants: BTreeMap<String, Tokens>,
}

/// Checks a tenant's name for clap. It becomes part of a path and of a queue's name.
pub(super) fn checked_name(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(plain) {
        return Err("a tenant's name has lower-case letters, digits and dashes only".into());
    }
    Ok(name.into())
}

/// Makes the tenants and tokens that are missing. Each is kept as soon as it is there, so that an
/// interrupted start loses none.
pub(super) async fn ensure(
    layout: &Layout,
    control_plane: &ControlPlane<'_>,
    wanted: &[String],
) -> Result<Provision, DevError> {
    let kept_in = layout.secrets().join("tenants.json");
    let mut kept: BTreeMap<String, Tokens> = secrets::find(&kept_in)?.unwrap_or_default();
    let (platform, platform_token) = platform(layout, control_plane).await?;
    let mut tenants = BTreeMap::new();
    for name in chosen(wanted, &kept) {
        if !kept.contains_key(&name) {
            kept.insert(name.clone(), create(&platform, &name, &kept_in).await?);
            secrets::keep(&kept_in, &kept)?;
        }
        let mut tokens = kept.get(&name).cloned().unwrap_or_default();
        for role in tokens.missing() {
            let first = platform.with_token(tokens.get(FIRST)?);
            tokens.0.insert(role.into(), create_token(&first, role).await?);
            kept.insert(name.clone(), tokens.clone());
            secrets::keep(&kept_in, &kept)?;
        }
        check(&platform.with_token(tokens.get("owner")?), &name, &kept_in).await?;
        tenants.insert(name, tokens);
    }
    Ok(Provision { platform_token, tenants })
}

fn chosen(wanted: &[String], kept: &BTreeMap<String, Tokens>) -> Vec<String> {
    if !wanted.is_empty() {
        return wanted.to_vec();
    }
    if !kept.is_empty() {
        return kept.keys().cloned().collect();
    }
    DEFAULTS.map(str::to_owned).to_vec()
}

/// A client with the kept platform token if it is still good, or a new one.
async fn platform(
    layout: &Layout,
    control_plane: &ControlPlane<'_>,
) -> Result<(Client, String), DevError> {
    let path = layout.secrets().join("platform.json");
    let api = |source| DevError::Api { action: "list the tenants".into(), source };
    let anonymous = Client::new(&control_plane.url(), None).map_err(api)?;
    if let Some(token) = secrets::find::<String>(&path)? {
        let client = anonymous.with_token(&token);
        match client.get::<Value>("/v1/tenants").await {
            Ok(_) => return Ok((client, token)),
            Err(problem) if problem.status() == Some(401) => {}
            Err(problem) => return Err(api(problem)),
        }
    }
    let token = control_plane.platform_token().await?;
    secrets::keep(&path, &token)?;
    Ok((anonymous.with_token(&token), token))
}

async fn create(platform: &Client, name: &str, kept_in: &Path) -> Result<Tokens, DevError> {
    let api = |source| DevError::Api { action: format!("create the tenant `{name}`"), source };
    let known: Page<Value> = platform.get("/v1/tenants").await.map_err(api)?;
    if known.items.iter().any(|tenant| tenant["name"] == name) {
        return Err(DevError::TokensLost { name: name.into(), secrets: kept_in.to_path_buf() });
    }
    let body = json!({"name": name});
    let tenant: Value = platform.post("/v1/tenants", &body).await.map_err(api)?;
    let owner = tenant["owner_token"]["token"].as_str().ok_or_else(|| DevError::Garbled {
        what: format!("the owner token of the new tenant `{name}`"),
    })?;
    Ok(Tokens(BTreeMap::from([(FIRST.into(), owner.to_owned())])))
}

/// Whether the kept tokens are still those of the tenant in the database.
async fn check(owner: &Client, name: &str, kept_in: &Path) -> Result<(), DevError> {
    match owner.get::<Value>("/v1/tokens").await {
        Ok(_) => Ok(()),
        Err(problem) if problem.status() == Some(401) => {
            Err(DevError::TokensLost { name: name.into(), secrets: kept_in.to_path_buf() })
        }
        Err(source) => {
            Err(DevError::Api { action: format!("list the tokens of `{name}`"), source })
        }
    }
}

async fn create_token(owner: &Client, role: &str) -> Result<String, DevError> {
    let body = json!({"name": format!("dev-{role}"), "role": role, "expires_in_s": LIFETIME_S});
    let token: Result<Token, _> = owner.post("/v1/tokens", &body).await;
    let action = format!("create a token for the role {role}");
    token.map(|token| token.token).map_err(|source| DevError::Api { action, source })
}
