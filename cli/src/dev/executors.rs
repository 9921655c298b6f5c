//! One executor per tenant.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::layout::{self, Layout};
use super::programs::Programs;
use super::service::{Service, Stage};
use super::tenants::Tokens;
use super::{DevError, secrets};
use crate::client::{Client, Page};

/// How long an executor may take to enrol.
pub(super) const START_LIMIT: Duration = Duration::from_secs(60);
/// What executors get of our environment, if it is there.
const PASSED_ON: [&str; 11] = [
    "BULKHEAD_IDLE_TIMEOUT_S",
    "BULKHEAD_MAX_LIFETIME_S",
    "BULKHEAD_MIN_TIER",
    "BULKHEAD_OUTPUT_PATIENCE_S",
    "BULKHEAD_POOL_SIZE",
    "BULKHEAD_RUNTIME",
    "BULKHEAD_RUN_DIR",
    "BULKHEAD_SANDBOX_IMAGE",
    "BULKHEAD_SPOOL_LIMIT_MIB",
    "BULKHEAD_WORKSPACE",
    "DOCKER_HOST",
];

/// Name of a tenant's executor service.
pub(super) fn name(tenant: &str) -> String {
    format!("executor-{tenant}")
}

/// The executor of a tenant.
pub(super) fn service(
    layout: &Layout,
    programs: &Programs,
    api_url: &str,
    tenant: &str,
    tokens: &Tokens,
) -> Result<Service, DevError> {
    let token_file = layout.secrets().join(format!("executor-{tenant}.token"));
    secrets::keep_text(&token_file, tokens.get("executor")?)?;
    let data_dir = layout.executor(tenant);
    layout::make(&data_dir, 0o700)?;
    let mut service = Service::new(layout, Stage::Work, &name(tenant), &programs.executor)
        .env("BULKHEAD_URL", api_url)
        .env("BULKHEAD_EXECUTOR_TOKEN_FILE", token_file)
        .env("BULKHEAD_DATA_DIR", data_dir)
        .env("BULKHEAD_SANDBOX_INIT", &programs.sandbox_init);
    for variable in PASSED_ON {
        service = service.env_from_ours(variable);
    }
    Ok(service)
}

/// Whether an executor of the owner's tenant was heard of after `since`.
pub(super) async fn is_enrolled(owner: &Client, since: OffsetDateTime) -> bool {
    let seen = |executor: &Value| {
        let at = executor["last_seen_at"].as_str()?;
        OffsetDateTime::parse(at, &Rfc3339).ok()
    };
    match owner.get::<Page<Value>>("/v1/executors").await {
        Ok(page) => page.items.iter().filter_map(seen).any(|at| at >= since),
        Err(_) => false,
    }
}
