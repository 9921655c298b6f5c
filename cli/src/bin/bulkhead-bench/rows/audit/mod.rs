//! The audit log by itself: appending, looking up, exporting and verifying it. Only measured when
//! asked for (`--audit`): it fills the database of the stack with events that stay.

mod append;
mod filters;
mod proof;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cli::dev_file::DevFile;

use super::control::{psql, tenant_id};
use crate::bench::Bench;
use crate::report::Row;
use crate::stats::Samples;

/// How long the control plane may take to index what was appended.
const LIMIT: Duration = Duration::from_secs(20 * 60);
const POLL: Duration = Duration::from_millis(200);

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let dev = &bench.stack.dev;
    let tenant = tenant_id(dev, "acme").await?;
    let mut rows = append::measure(dev, &bench.sizes).await?;
    append::fill(dev, &tenant, bench.sizes.listed_events).await?;
    let took = index(dev, &tenant).await?;
    let name = "until all of it is indexed, after the last append";
    rows.push(Row::new(name, "s", Samples::new([took.as_secs_f64()])));
    rows.extend(filters::measure(dev, bench.sizes.listed_events).await?);
    rows.extend(proof::measure(bench).await?);
    Ok(rows)
}

/// Waits until a tenant's full blocks are indexed.
async fn index(dev: &DevFile, tenant: &str) -> Result<Duration> {
    let begin = Instant::now();
    let waiting = format!(
        "SELECT h.seq / 512 > count(b.block) FROM audit_heads h LEFT JOIN audit_blocks b
             ON b.chain = h.chain WHERE h.chain = '{tenant}' GROUP BY h.seq"
    );
    while psql(dev, tenant, &waiting)?.ends_with('t') {
        ensure!(begin.elapsed() < LIMIT, "the audit log is not indexed");
        tokio::time::sleep(POLL).await;
    }
    Ok(begin.elapsed())
}
