//! `platform-token` and `token-key`: the platform's first token, and changing what signs tokens.

use std::io::Write as _;

use clap::ValueEnum;
use control_plane::config::{DatabaseConfig, KeyConfig};
use control_plane::keys::{Keys, TokenKeys};
use control_plane::store::{AuditEntry, NewToken, Store};
use control_plane::tokens;
use domain::access::Role;

/// The three steps of changing the key that signs tokens.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Step {
    /// Make the next key; it verifies, and does not sign yet
    Prepare,
    /// Let the next key sign; the old one verifies on
    Activate,
    /// Remove old keys, and with them the tokens that they signed
    Retire,
}

/// Takes one step; running control planes notice within seconds.
///
/// # Errors
/// When the folder of the keys cannot be used.
pub(crate) fn change_token_key(config: &KeyConfig, step: Step) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match step {
        Step::Prepare => writeln!(out, "next: {}", TokenKeys::prepare(&config.key_dir)?)?,
        Step::Activate => writeln!(out, "signs: {}", TokenKeys::activate(&config.key_dir)?)?,
        Step::Retire => {
            for kid in TokenKeys::retire(&config.key_dir)? {
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
