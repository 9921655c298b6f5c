//! `worker`: session workflows and their control activities.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use control_plane::config::WorkerConfig;
use control_plane::keys::Keys;
use control_plane::model::ModelClient;
use control_plane::store::Store;
use control_plane::worker::{self, Activities};
use control_plane::{demo_model, dispatch};

use super::{refuse_strong_role, strong_role, terminated};

/// Works until SIGTERM or SIGINT.
///
/// # Errors
/// When a setting is wrong.
pub(crate) async fn work(config: WorkerConfig) -> anyhow::Result<()> {
    let store = Store::connect_lazily(&config.database.database_url, 24)
        .context("DATABASE_URL is not a Postgres address")?;
    let keys = Arc::new(Keys::load(&config.database.keys.key_dir)?);
    refuse_strong_role(&store).await?;
    let key = config.openai_api_key.filter(|key| !key.is_empty());
    let model = match key {
        Some(key) => ModelClient::new(&config.openai_base_url, &key, &config.model)?,
        None => {
            let address = demo_model::start().await.context("the demo model cannot listen")?;
            tracing::info!("OPENAI_API_KEY is not set: the offline demo model answers");
            ModelClient::new(&format!("http://{address}/v1"), "none", "bulkhead-demo")?
        }
    };
    let mut said = false;
    let client = loop {
        match dispatch::connect(&config.temporal).await {
            Ok(client) => break client,
            Err(error) if !said => {
                said = true;
                let address = &config.temporal.temporal_address;
                tracing::warn!(%error, address, "Temporal does not answer; will try again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
            () = terminated() => return Ok(()),
            error = strong_role(&store) => return Err(error),
        }
    };
    tokio::spawn(keys.clone().keep_fresh());
    let patience = config.patience.executor_gone_after_s;
    let activities = Activities::new(store.clone(), keys, model, patience);
    tokio::select! {
        outcome = worker::run(client, activities, terminated()) => outcome,
        error = strong_role(&store) => Err(error),
    }
}
