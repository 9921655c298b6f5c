//! Measures `true` through the HTTP API beside `docker exec` of `true`, alternating, so that both
//! see the same machine. Started by `cargo xtask bench`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cli::client::{Client, ExecRequest, NewSession};
use cli::console;
use cli::dev_file::DevFile;
use domain::exec::ExecState;
use serde_json::{Value, json};
use tokio::process::Command;

const WAIT_MS: u64 = 10_000;
const DOCKER_LIMIT: Duration = Duration::from_secs(60);

/// Measures the time of one command.
#[derive(Parser)]
struct Arguments {
    /// Data folder of a running `bulkhead dev`.
    #[arg(long)]
    data_dir: PathBuf,
    /// Image of the container that `docker exec` runs in.
    #[arg(long)]
    image: String,
    /// Commands on each side.
    #[arg(long, default_value_t = 200)]
    samples: u32,
    /// Commands on each side before that, unmeasured.
    #[arg(long, default_value_t = 20)]
    warm_up: u32,
    /// Where the numbers go.
    #[arg(long)]
    out: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let dev = DevFile::find(&arguments.data_dir)?.context("no `bulkhead dev` runs there")?;
    let tokens = dev.tenants.values().next().context("no tenant")?;
    let client = Client::new(&dev.api_url, Some(&tokens.agent_token))?;
    let session = client.create_session(&NewSession::default()).await?.session_id;
    let container = docker(&run_arguments(&arguments.image)).await?;
    let measured = measure(&arguments, &client, &session, container.trim()).await;
    docker(&["rm", "--force", container.trim()]).await?;
    client.close_session(&session).await?;
    report(&arguments, measured?)
}

/// The time of each command on each side.
struct Measured {
    bulkhead: Vec<Duration>,
    docker: Vec<Duration>,
}

async fn measure(
    arguments: &Arguments,
    client: &Client,
    session: &str,
    container: &str,
) -> Result<Measured> {
    let mut measured = Measured { bulkhead: Vec::new(), docker: Vec::new() };
    for round in 0..arguments.warm_up + arguments.samples {
        let ours = through_bulkhead(client, session).await?;
        let begin = Instant::now();
        docker(&["exec", container, "true"]).await?;
        let theirs = begin.elapsed();
        if round >= arguments.warm_up {
            measured.bulkhead.push(ours);
            measured.docker.push(theirs);
        }
    }
    measured.bulkhead.sort();
    measured.docker.sort();
    Ok(measured)
}

async fn through_bulkhead(client: &Client, session: &str) -> Result<Duration> {
    let request = ExecRequest { wait_ms: Some(WAIT_MS), ..ExecRequest::new("true") };
    let begin = Instant::now();
    let exec = client.create_exec(session, &request, None).await?;
    let took = begin.elapsed();
    ensure!(
        exec.state == ExecState::Exited && exec.exit_code == Some(0),
        "`true` ended as {} with {:?}",
        exec.state.as_str(),
        exec.exit_code
    );
    Ok(took)
}

/// As close to a sandbox as a container of Docker's own is.
fn run_arguments(image: &str) -> [&str; 8] {
    ["run", "--detach", "--rm", "--network=none", "--entrypoint=sleep", "--init", image, "86400"]
}

async fn docker(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DOCKER_LIMIT, command.output()).await??;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker {}: {}", arguments.join(" "), complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn report(arguments: &Arguments, measured: Measured) -> Result<()> {
    let row = |name: &str, sorted: &[Duration]| {
        let cell = |share| format!("{:.1}", percentile_ms(sorted, share));
        vec![name.to_owned(), cell(0.50), cell(0.95), cell(0.99)]
    };
    let rows = [row("bulkhead", &measured.bulkhead), row("docker exec", &measured.docker)];
    console::print_table(&["`true`, ms", "p50", "p95", "p99"], &rows)?;
    let ratio = percentile_ms(&measured.docker, 0.5) / percentile_ms(&measured.bulkhead, 0.5);
    console::print(format_args!("bulkhead is {ratio:.2} times as fast at p50"))?;
    let document = json!({
        "command": "true",
        "samples": arguments.samples,
        "bulkhead_ms": numbers(&measured.bulkhead),
        "docker_exec_ms": numbers(&measured.docker),
        "docker_to_bulkhead_p50": ratio,
    });
    std::fs::write(&arguments.out, serde_json::to_vec_pretty(&document)?)?;
    Ok(())
}

fn numbers(sorted: &[Duration]) -> Value {
    json!({
        "p50": percentile_ms(sorted, 0.50),
        "p95": percentile_ms(sorted, 0.95),
        "p99": percentile_ms(sorted, 0.99),
    })
}

/// The nearest-rank percentile of sorted times, in milliseconds.
fn percentile_ms(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    let at = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let sorted: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        let close = |share, expected: f64| (percentile_ms(&sorted, share) - expected).abs() < 1e-9;
        assert!(close(0.5, 50.0) && close(0.99, 99.0) && close(1.0, 100.0));
        assert!(percentile_ms(&[], 0.5).abs() < 1e-9);
    }
}
