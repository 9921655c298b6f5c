//! What it costs to know who calls and whether they may: a request that needs no more than that,
//! beside one that needs not even that.

use anyhow::{Result, ensure};
use cli::client::Client;
use cli::dev_file::DevFile;

use super::timed;
use crate::report::Row;
use crate::stats::Samples;

const SAMPLES: usize = 3000;
const GOAL_MS: f64 = 0.2;

/// Measures it.
pub(super) async fn measure(dev: &DevFile) -> Result<Vec<Row>> {
    let anybody = Client::new(&dev.api_url, None)?;
    let owner = Client::new(&dev.api_url, Some(&dev.tenants["acme"].owner_token))?;
    let (mut open, mut checked) = (Vec::new(), Vec::new());
    for round in 0..SAMPLES + 200 {
        let (without, _) = timed(&anybody, "/healthz").await?;
        // An owner may not list tenants: refused after the check, before any query.
        let (with, status) = timed(&owner, "/v1/tenants").await?;
        ensure!(status == 403, "the request was not refused but answered {status}");
        if round >= 200 {
            open.push(without);
            checked.push(with);
        }
    }
    let (open, checked) = (Samples::times(open), Samples::times(checked));
    let cost = (checked.p50() - open.p50()).max(0.0);
    Ok(vec![
        Row::new("token check, role and rate, without a query", "ms", Samples::new([cost]))
            .with("p50 of the request", checked.p50())
            .with("p50 of /healthz", open.p50())
            .goal(format!("p50 ≤ {GOAL_MS} ms"), cost <= GOAL_MS),
    ])
}
