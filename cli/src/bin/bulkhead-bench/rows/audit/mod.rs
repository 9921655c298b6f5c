//! The audit log by itself: appending, looking up, exporting and verifying it. Only measured when
//! asked for (`--audit`): it fills the database of the stack with events that stay.

mod append;
mod filters;
mod proof;

use anyhow::Result;

use super::control::tenant_id;
use crate::bench::Bench;
use crate::report::Row;

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let dev = &bench.stack.dev;
    let tenant = tenant_id(dev, "acme").await?;
    let mut rows = append::measure(dev, &bench.sizes).await?;
    append::fill(dev, &tenant, bench.sizes.listed_events).await?;
    rows.extend(filters::measure(dev, bench.sizes.listed_events).await?);
    rows.extend(proof::measure(bench).await?);
    Ok(rows)
}
