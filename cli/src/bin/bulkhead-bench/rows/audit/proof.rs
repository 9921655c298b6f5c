//! Taking the log away and verifying it elsewhere: how fast it comes, and what the offline verifier
//! needs for it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cli::client::Client;
use tokio::process::Command;

use crate::bench::Bench;
use crate::host::MemoryWatch;
use crate::report::Row;
use crate::stats::Samples;

const GOAL_MB_PER_S: f64 = 20.0;
const GOAL_S: f64 = 30.0;
/// Flat: whatever the length of the log.
const GOAL_MIB: f64 = 32.0;
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Measures it.
pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let dev = &bench.stack.dev;
    let reviewer = Client::new(&dev.api_url, Some(&dev.tenants["acme"].reviewer_token))?;
    let _: serde_json::Value =
        reviewer.post("/v1/audit/checkpoints", &serde_json::json!({})).await?;
    let file = bench.data_dir.join("audit.jsonl");
    let begin = Instant::now();
    run(bench, &["audit", "export", "--tenant", "acme", "--out", &file.to_string_lossy()]).await?;
    let (took, bytes) = (begin.elapsed().as_secs_f64(), std::fs::metadata(&file)?.len());
    let rate = bytes as f64 / 1e6 / took;

    let key = bench.data_dir.join("audit.pub");
    let begin = Instant::now();
    let (from, key) = (file.to_string_lossy(), key.to_string_lossy());
    let peak = run(bench, &["audit", "verify", "--from", &from, "--key", &key]).await?;
    let verified = begin.elapsed().as_secs_f64();
    std::fs::remove_file(&file)?;
    Ok(vec![
        Row::new("export of the log", "MB/s", Samples::new([rate]))
            .with("MB", bytes as f64 / 1e6)
            .goal(format!("≥ {GOAL_MB_PER_S} MB/s"), rate >= GOAL_MB_PER_S),
        Row::new("its verification, offline", "s", Samples::new([verified]))
            .with("events", bench.sizes.listed_events.into())
            .goal(format!("≤ {GOAL_S} s"), verified <= GOAL_S),
        Row::new("memory of the verifier", "MiB", Samples::new([peak]))
            .goal(format!("≤ {GOAL_MIB} MiB"), peak <= GOAL_MIB),
    ])
}

/// Runs the CLI to its end. Gives the most memory that it had, in MiB.
async fn run(bench: &Bench, arguments: &[&str]) -> Result<f64> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name("bulkhead"));
    command
        .args(arguments)
        .env("BULKHEAD_DATA_DIR", &bench.data_dir)
        .env_remove("BULKHEAD_URL")
        .env_remove("BULKHEAD_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn()?;
    let watch = MemoryWatch::begin(child.id().context("it ended at once")?);
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let output = output.context("it takes too long")??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(watch.peak_kib() as f64 / 1024.0)
}
