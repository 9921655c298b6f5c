//! Looks after what nobody asks for, tenant by tenant: ends that nobody wrote down (see `reconcile`),
//! and details of the audit log whose time is over (see `retention`). Writes the terms by which audit
//! events are found (see `indexing`). Safe beside other control
//! planes, which do the same.

mod indexing;
mod reconcile;
mod retention;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::ids::TenantId;
use time::OffsetDateTime;

use crate::config::UpkeepConfig;
use crate::dispatch::Dispatcher;
use crate::metrics::Metrics;
use crate::outcome::OutcomeError;
use crate::store::Store;

pub use indexing::keep_indexed;

/// Rest after each tenant: with many of them, looking is work.
const PER_TENANT: Duration = Duration::from_millis(50);

/// How often retention is applied: each time leaves an event where something goes, which is always
/// the case where work goes on.
const RETENTION_EVERY: Duration = Duration::from_secs(60 * 60);

/// See the module.
pub struct Upkeep {
    store: Store,
    dispatcher: Arc<Dispatcher>,
    metrics: Arc<Metrics>,
    pause: Duration,
    /// Seconds after the end of its time from which nobody is expected to tell of an exec.
    unknown_after_s: f64,
    /// Up to which end each tenant's execs were looked through. Empty at the start: all of them are.
    seen: HashMap<TenantId, OffsetDateTime>,
    /// When retention is applied next.
    retain_at: Instant,
}

impl Upkeep {
    /// Looks as often and waits as long as `config` says.
    pub fn new(
        store: Store,
        dispatcher: Arc<Dispatcher>,
        metrics: Arc<Metrics>,
        config: &UpkeepConfig,
    ) -> Self {
        let pause = Duration::from_secs(config.audit_sweep_s);
        let unknown_after_s = config.unknown_after_s.into();
        let (seen, retain_at) = (HashMap::new(), Instant::now());
        Self { store, dispatcher, metrics, pause, unknown_after_s, seen, retain_at }
    }

    /// Looks for as long as the process lives.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(self.pause).await;
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "cannot look after the audit log; will try again");
            }
        }
    }

    async fn sweep(&mut self) -> Result<(), OutcomeError> {
        let tenants = self.store.platform().await?.list_tenants(None, i64::MAX).await?;
        let retains = Instant::now() >= self.retain_at;
        if retains {
            self.retain_at = Instant::now() + RETENTION_EVERY;
        }
        for tenant in tenants {
            // One trouble is not another's, of whichever tenant.
            let tenant_id = tenant.id;
            log(self.end_overdue(tenant_id).await, tenant_id);
            log(self.end_overdue_turns(tenant_id).await, tenant_id);
            log(self.record_ends(tenant_id).await, tenant_id);
            log(self.end_file_calls(tenant_id).await, tenant_id);
            if retains {
                log(self.apply_retention(tenant_id).await, tenant_id);
            }
            tokio::time::sleep(PER_TENANT).await;
        }
        Ok(())
    }
}

fn log<E: std::fmt::Display>(outcome: Result<(), E>, tenant_id: TenantId) {
    if let Err(error) = outcome {
        tracing::warn!(%error, %tenant_id, "cannot look after its audit log; will try again");
    }
}
