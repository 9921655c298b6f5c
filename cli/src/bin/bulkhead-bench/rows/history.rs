//! What a command adds to its session's history in Temporal.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cli::client::NewSession;
use serde_json::Value;
use tokio::process::Command;

use crate::bench::Bench;
use crate::report::Row;
use crate::stats::Samples;

const LIMIT: Duration = Duration::from_secs(20);

struct History {
    run_id: String,
    bytes: f64,
    events: f64,
}

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let (tenant, execs) = (bench.tenant()?, bench.sizes.history_execs);
    let session = tenant.session(&NewSession::default()).await?;
    // The first one also pays for the session's own beginning.
    tenant.run(&session, "true").await?;
    let before = history(bench, &session).await?;
    for _ in 0..execs {
        tenant.run(&session, "true").await?;
    }
    let after = history(bench, &session).await?;
    tenant.close(&session).await?;
    ensure!(before.run_id == after.run_id, "the workflow continued as new meanwhile");
    let per_exec = |before: f64, after: f64| (after - before) / f64::from(execs);
    let bytes = Samples::new([per_exec(before.bytes, after.bytes)]);
    let events = per_exec(before.events, after.events);
    Ok(vec![Row::new("history of one exec", "bytes", bytes).with("events", events)])
}

async fn history(bench: &Bench, session: &str) -> Result<History> {
    let address = bench.stack.temporal_address.trim_start_matches("http://");
    let mut program = Command::new(&bench.temporal);
    program.args(["workflow", "describe", "--output", "json", "--address", address]);
    program.args(["--workflow-id", &format!("session/{session}")]).kill_on_drop(true);
    let output =
        tokio::time::timeout(LIMIT, program.output()).await.context("Temporal's CLI")??;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "Temporal's CLI: {}", complaint.trim());
    let told: Value = serde_json::from_slice(&output.stdout).context("Temporal's CLI")?;
    let info = &told["workflowExecutionInfo"];
    let run_id = info["execution"]["runId"].as_str().context("no run id")?.to_owned();
    let bytes = number(&info["historySizeBytes"]).context("no size of the history")?;
    let events = number(&info["historyLength"]).context("no length of the history")?;
    Ok(History { run_id, bytes, events })
}

/// JSON of protobuf writes large integers as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}
