//! Terms of audit events are written block by block, soon after a block is full.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Metrics;
use crate::store::{FullBlock, Store, StoreError, Who};

/// How often full blocks are looked for.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes them for as long as the process lives. Safe beside other control planes, which do the same.
pub async fn keep_indexed(store: Store, metrics: Arc<Metrics>) {
    loop {
        match index_full_blocks(&store, &metrics).await {
            // There may be more by now.
            Ok(written) if written > 0 => {}
            Ok(_) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                tracing::warn!(%error, "cannot index the audit log; will try again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One block of each chain that has one: a long chain keeps no other waiting. Gives how many were
/// written.
async fn index_full_blocks(store: &Store, metrics: &Metrics) -> Result<usize, StoreError> {
    let full = store.platform().await?.list_full_blocks().await?;
    metrics.unindexed.set(full.iter().map(|it| it.waiting).sum());
    let mut written = 0;
    for FullBlock { chain, block, .. } in full {
        match index_block(store, &chain, block).await {
            Ok(()) => written += 1,
            // One trouble is not another's.
            Err(error) => tracing::warn!(%error, chain, block, "cannot index a block"),
        }
    }
    Ok(written)
}

async fn index_block(store: &Store, chain: &str, block: i64) -> Result<(), StoreError> {
    let who = match chain {
        "system" => Who::Platform,
        tenant => Who::Tenant(tenant.parse().map_err(|_| StoreError::Inconsistent("chain"))?),
    };
    let mut scope = store.open(who).await?;
    scope.index_audit_block(block).await?;
    scope.commit().await
}
