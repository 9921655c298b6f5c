//! `platform-token`, `token-key`, `grant-key` and `rotate-audit-key`: the platform's first token, and
//! changing what signs tokens, grants and checkpoints. All of it is on record in the platform's chain.

use std::io::Write as _;

use anyhow::Context as _;
use clap::ValueEnum;
use control_plane::audit_keys::AuditKeys;
use control_plane::config::DatabaseConfig;
use control_plane::keys::{KeyRing, Keys, Purpose};
use control_plane::store::{AuditEntry, NewToken, Store, StoreError};
use control_plane::tokens;
use domain::access::Role;
use serde_json::json;

/// The three steps of changing a key.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Step {
    /// Make the next key; it verifies, and does not sign yet
    Prepare,
    /// Let the next key sign; the old one verifies on
    Activate,
    /// Remove old keys, and with them what they signed
    Retire,
}

/// Takes one step; running control planes notice within seconds.
///
/// # Errors
/// When the folder of the keys cannot be used, or the step cannot be put on record.
pub(crate) async fn change_key(
    config: DatabaseConfig,
    purpose: Purpose,
    step: Step,
) -> anyhow::Result<()> {
    let folder = &config.keys.key_dir;
    let action = match step {
        Step::Prepare => "key.prepare",
        Step::Activate => "key.activate",
        Step::Retire => "key.retire",
    };
    let kids = on_record(&config, action, purpose.as_str(), || match step {
        Step::Prepare => Ok(vec![KeyRing::prepare(folder, purpose)?]),
        Step::Activate => Ok(vec![KeyRing::activate(folder, purpose)?]),
        Step::Retire => Ok(KeyRing::retire(folder, purpose)?),
    });
    let said = match step {
        Step::Prepare => "next",
        Step::Activate => "signs",
        Step::Retire => "retired",
    };
    for kid in kids.await? {
        writeln!(std::io::stdout(), "{said}: {kid}")?;
    }
    Ok(())
}

/// Makes a new key for audit checkpoints.
///
/// # Errors
/// When the folder of the keys cannot be used, or the change cannot be put on record.
pub(crate) async fn rotate_audit_key(config: DatabaseConfig) -> anyhow::Result<()> {
    let folder = &config.keys.key_dir;
    on_record(&config, "key.rotate", "audit", || {
        AuditKeys::rotate(folder)?;
        let signer = AuditKeys::load(folder)?.signers.into_iter().next();
        Ok(signer.map(|signer| signer.public().to_string()).into_iter().collect())
    })
    .await?;
    Ok(())
}

/// Changes keys: first that it is wanted is on record, then it is done, then how it went is. Gives the
/// names of the keys that it was about.
async fn on_record(
    config: &DatabaseConfig,
    action: &'static str,
    of: &str,
    change: impl FnOnce() -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<Vec<String>> {
    let store = Store::connect_lazily(&config.database_url, 1)?;
    let entry = |outcome, detail| AuditEntry {
        outcome,
        detail,
        ..AuditEntry::by_part("operator", action, format!("{of} key"))
    };
    append(&store, entry("requested", json!({})))
        .await
        .context("keys are changed only when that can be put on record; nothing was changed")?;
    let changed = change();
    let outcome = match &changed {
        Ok(kids) => entry("ok", json!({ "keys": kids })),
        Err(error) => entry("failed", json!({ "reason": error.to_string() })),
    };
    append(&store, outcome).await.context("it is done, and its outcome could not be recorded")?;
    changed
}

async fn append(store: &Store, entry: AuditEntry) -> Result<(), StoreError> {
    let mut scope = store.platform().await?;
    scope.append_audit(entry);
    scope.commit().await
}

/// Makes a platform token and prints it.
///
/// # Errors
/// When the keys cannot be read or the database does not answer.
pub(crate) async fn platform_token(config: DatabaseConfig) -> anyhow::Result<()> {
    let keys = Keys::load(&config.keys.key_dir)?;
    let store = Store::connect_lazily(&config.database_url, 1)?;
    let lifetime = time::Duration::days(365);
    let now = time::OffsetDateTime::now_utc();
    let issued =
        tokens::issue(&keys.tokens.signer(), Role::Platform, None, "platform", lifetime, now)?;
    let mut scope = store.platform().await?;
    let stored = NewToken {
        id: issued.id,
        jti_hash: &issued.jti_hash,
        name: "platform",
        role: Role::Platform,
        created_by: None,
        expires_at: issued.expires_at,
    };
    scope.insert_token(&stored).await?;
    let entry = AuditEntry {
        detail: json!({ "name": "platform", "role": "platform" }),
        ..AuditEntry::by_part("operator", "token.create", issued.id)
    };
    scope.append_audit(entry);
    scope.commit().await?;
    writeln!(std::io::stdout(), "{}", issued.secret)?;
    Ok(())
}
