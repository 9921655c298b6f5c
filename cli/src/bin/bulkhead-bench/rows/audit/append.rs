//! Appending, one event per transaction, by the service's own code and role: to one tenant's chain,
//! and to those of ten.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cli::console;
use cli::dev_file::DevFile;
use serde_json::Value;
use tokio::process::Command;

use crate::bench::Sizes;
use crate::report::Row;
use crate::stats::Samples;

/// Writers at once.
const WRITERS: u32 = 16;
const ROUNDS: usize = 3;
/// Events of one transaction when the log is merely filled.
const FILLING: u32 = 1000;
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Measures it.
pub(super) async fn measure(dev: &DevFile, sizes: &Sizes) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, tenants, goal) in
        [("append, one tenant", 1, 1000.0), ("append, ten tenants", 10, 3000.0)]
    {
        let (mut rates, mut commits) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let events = sizes.appended_events.to_string();
            let (chains, writers) = (tenants.to_string(), WRITERS.to_string());
            let told =
                append(dev, &["--tenants", &chains, "--writers", &writers, "--events", &events])
                    .await?;
            rates.push(number(&told, "per_second")?);
            commits.push(number(&told, "commit_p95_ms")?);
        }
        let rates = Samples::new(rates);
        let met = rates.p50() >= goal;
        rows.push(
            Row::new(name, "events/s", rates)
                .with("p95 of a commit in ms", Samples::new(commits).p50())
                .goal(format!("≥ {goal:.0}"), met),
        );
    }
    Ok(rows)
}

/// Makes a tenant's log as long as asked for.
pub(super) async fn fill(dev: &DevFile, tenant: &str, events: u32) -> Result<()> {
    console::say(format_args!("fills the audit log: {events} events"));
    let (events, per_commit) = (events.to_string(), FILLING.to_string());
    let one = ["--tenant", tenant, "--writers", "1"];
    append(dev, &[&one[..], &["--events", &events, "--per-commit", &per_commit]].concat()).await?;
    Ok(())
}

async fn append(dev: &DevFile, arguments: &[&str]) -> Result<Value> {
    let program = std::env::current_exe()?.with_file_name("bulkhead-control-plane");
    let mut command = Command::new(program);
    command
        .arg("measure-append")
        .args(arguments)
        .env("DATABASE_URL", &dev.database_url)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, command.output());
    let output = ended.await.context("appending takes too long")??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn number(told: &Value, name: &str) -> Result<f64> {
    told[name].as_f64().with_context(|| format!("no {name} in {told}"))
}
