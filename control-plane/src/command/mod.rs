//! The program's commands, one file each, and what they share.

mod doctor;
mod keys;
mod measure;
mod serve;
mod work;

pub(crate) use doctor::doctor;
pub(crate) use keys::{Step, change_key, platform_token, rotate_audit_key};
pub(crate) use measure::{MeasureConfig, measure_append};
pub(crate) use serve::serve;
pub(crate) use work::work;

use std::time::Duration;

use anyhow::{Context, bail};
use control_plane::audit_keys::AuditKeys;
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
    AuditKeys::create_missing(&config.keys.key_dir)?;
    Store::migrate(&config.database_url).await.context("cannot bring the database up to date")
}

/// Looks once, before anything is done with the database.
async fn refuse_strong_role(store: &Store) -> anyhow::Result<()> {
    match store.excess_rights().await {
        Ok(rights) if !rights.is_empty() => bail!(too_strong(&rights)),
        _ => Ok(()),
    }
}

/// Row-level security means nothing to a role that is above it: ends with an error as soon as the
/// database says that ours is, and never otherwise. A database that does not answer is no reason
/// not to start; requests are refused until it does.
async fn strong_role(store: &Store) -> anyhow::Error {
    let mut said = false;
    loop {
        match store.excess_rights().await {
            Ok(rights) if rights.is_empty() => std::future::pending().await,
            Ok(rights) => return anyhow::Error::msg(too_strong(&rights)),
            Err(error) if !said => {
                said = true;
                tracing::warn!(%error, "Postgres does not answer yet");
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
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
