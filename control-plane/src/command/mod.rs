//! The program's commands, one file each, and what they share.

mod doctor;
mod keys;
mod serve;
mod work;

pub(crate) use doctor::doctor;
pub(crate) use keys::{Step, change_token_key, platform_token};
pub(crate) use serve::serve;
pub(crate) use work::work;

use anyhow::{Context, bail};
use control_plane::config::DatabaseConfig;
use control_plane::keys::Keys;
use control_plane::store::Store;
use tokio::signal::unix::{SignalKind, signal};

/// Brings the database up to date and makes missing keys.
///
/// # Errors
/// When the folder of the keys or the database cannot be used.
pub(crate) async fn migrate(config: DatabaseConfig) -> anyhow::Result<()> {
    Keys::create_missing(&config.keys.key_dir)?;
    Store::migrate(&config.database_url).await.context("cannot bring the database up to date")
}

/// Row-level security means nothing to a role that is above it. An unreachable database is no
/// reason not to start; requests are refused until it answers.
async fn refuse_strong_role(store: &Store) -> anyhow::Result<()> {
    match store.excess_rights().await {
        Ok(rights) if rights.is_empty() => Ok(()),
        Ok(rights) => bail!(too_strong(&rights)),
        Err(error) => {
            tracing::warn!(%error, "Postgres does not answer yet");
            Ok(())
        }
    }
}

fn too_strong(rights: &[String]) -> String {
    format!(
        "the database role is too strong ({}): connect as bulkhead_app, which is neither owner \
         nor superuser",
        rights.join(", ")
    )
}

async fn terminated() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
