//! `platform-token`, `token-key` and `grant-key`: the platform's first token, and changing what
//! signs tokens and grants.

use std::io::Write as _;

use clap::ValueEnum;
use control_plane::config::{DatabaseConfig, KeyConfig};
use control_plane::keys::{KeyRing, Keys, Purpose};
use control_plane::store::{AuditEntry, NewToken, Store};
use control_plane::tokens;
use domain::access::Role;

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
/// When the folder of the keys cannot be used.
pub(crate) fn change_key(config: &KeyConfig, purpose: Purpose, step: Step) -> anyhow::Result<()> {
    let folder = &config.key_dir;
    let mut out = std::io::stdout();
    match step {
        Step::Prepare => writeln!(out, "next: {}", KeyRing::prepare(folder, purpose)?)?,
        Step::Activate => writeln!(out, "signs: {}", KeyRing::activate(folder, purpose)?)?,
        Step::Retire => {
            for kid in KeyRing::retire(folder, purpose)? {
                writeln!(out, "retired: {kid}")?;
            }
        }
    }
    Ok(())
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
        detail: serde_json::json!({ "name": "platform", "role": "platform" }),
        ..AuditEntry::by_part("operator", "token.create", issued.id)
    };
    scope.append_audit(entry);
    scope.commit().await?;
    writeln!(std::io::stdout(), "{}", issued.secret)?;
    Ok(())
}
