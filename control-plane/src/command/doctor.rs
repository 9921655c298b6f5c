//! `doctor`: looks for everything that the control plane needs, and names what is missing.

use anyhow::bail;
use control_plane::config::ServeConfig;
use control_plane::dispatch;
use control_plane::keys::Keys;
use control_plane::store::Store;

use super::too_strong;

/// Looks, and says what it found.
///
/// # Errors
/// Names everything that is missing, with what to do about it.
pub(crate) async fn doctor(config: ServeConfig) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    match Keys::load(&config.database.keys.key_dir) {
        Ok(keys) => eprintln!("ok: keys; {} verify tokens", keys.tokens.all().len()),
        Err(error) => problems.push(format!("keys: {error}")),
    }
    let store = Store::connect_lazily(&config.database.database_url, 1)?;
    match store.excess_rights().await {
        Ok(rights) if rights.is_empty() => eprintln!("ok: Postgres answers, and the role is weak"),
        Ok(rights) => problems.push(too_strong(&rights)),
        Err(error) => problems.push(format!("Postgres: {error}; start it or check DATABASE_URL")),
    }
    match store.find_schema_fault().await {
        Ok(None) => eprintln!("ok: the schema is up to date"),
        Ok(Some(fault)) => problems.push(fault.to_string()),
        // Named above.
        Err(_) => {}
    }
    match dispatch::connect(&config.temporal).await {
        Ok(_) => eprintln!("ok: Temporal answers"),
        Err(error) => {
            problems.push(format!("Temporal: {error}; start it or check TEMPORAL_ADDRESS"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{}", problems.join("\n"))
}
