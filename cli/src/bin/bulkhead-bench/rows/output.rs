//! A large output: to the end of the command, to the last byte read through the API, and the
//! executor's memory meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cli::client::{Client, Exec, NewSession, Stream};
use domain::exec::ExecState;

use crate::bench::Bench;
use crate::docker::exec_by_cli;
use crate::host::{MemoryWatch, resident_kib};
use crate::report::Row;
use crate::stack::{Tenant, WAIT};
use crate::stats::Samples;

/// Of `docker exec`'s speed.
const SPEED_GOAL: f64 = 2.0;
const MEMORY_GOAL_MIB: f64 = 64.0;
/// A file that is read by whoever is measured: nothing else makes bytes as fast as is compared here.
const FILE: &str = "/work/large";
const POLL: Duration = Duration::from_millis(5);

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let (tenant, bytes) = (bench.tenant()?, bench.sizes.output_bytes);
    let command = format!("cat {FILE}");
    let session = tenant.session(&NewSession::default()).await?;
    let container = bench.plain_container()?;
    let make = format!("yes 'some output' | head -c {bytes} > {FILE}");
    let made = tenant.start(&session, &make).await?;
    tenant.finish(&made.exec_id).await?;
    exec_by_cli(&container.id, &["bash", "-c", &format!("mkdir -p /work; {make}")]).await?;
    let docker_command = ["cat", FILE];
    let first = tenant.start(&session, &command).await?;
    check(&tenant.finish(&first.exec_id).await?, bytes)?;
    drain(&tenant.agent, &first.exec_id).await?;
    let before_kib = resident_kib(tenant.executor_pid)?;
    let watch = MemoryWatch::begin(tenant.executor_pid);
    let (mut ended, mut read, mut docker) = (Vec::new(), Vec::new(), Vec::new());
    let mut stored = 0;
    for _ in 0..bench.sizes.outputs {
        let begin = Instant::now();
        let exec = run(tenant, &session, &command).await?;
        ended.push(speed(bytes, begin.elapsed()));
        check(&exec, bytes)?;
        stored = drain(&tenant.agent, &exec.exec_id).await?;
        read.push(speed(stored, begin.elapsed()));
        let begin = Instant::now();
        let through = exec_by_cli(&container.id, &docker_command).await?;
        docker.push(speed(through, begin.elapsed()));
        ensure!(through == bytes, "`docker exec` gave {through} bytes");
    }
    let peak = mib(watch.peak_kib().saturating_sub(before_kib));
    let after = mib(resident_kib(tenant.executor_pid)?);
    tenant.close(&session).await?;
    let (ended, docker) = (Samples::new(ended), Samples::new(docker));
    let met = ended.p50() >= SPEED_GOAL * docker.p50();
    let megabytes = bytes / 1_000_000;
    Ok(vec![
        Row::new(format!("output of {megabytes} MB, to the end of the exec"), "MB/s", ended)
            .beside("docker exec", &docker)
            .goal(format!("≥ {SPEED_GOAL} × docker exec"), met),
        Row::new("  the same, to the last stored byte read", "MB/s", Samples::new(read))
            .beside("docker exec", &docker)
            .with("MB stored", stored as f64 / 1e6),
        Row::new("  baseline: `docker exec` to a pipe", "MB/s", docker),
        Row::new("  the executor's memory above idle, peak", "MiB", Samples::new([peak]))
            .with("before", mib(before_kib))
            .with("after", after)
            .goal(format!("≤ {MEMORY_GOAL_MIB} MiB"), peak <= MEMORY_GOAL_MIB),
    ])
}

async fn run(tenant: &Tenant, session: &str, command: &str) -> Result<Exec> {
    let (exec, _) = tenant.run(session, command).await?;
    Ok(exec)
}

fn check(exec: &Exec, bytes: u64) -> Result<()> {
    let got = exec.stdout.bytes_total;
    ensure!(exec.state == ExecState::Exited, "the command ended as {}", exec.state.as_str());
    ensure!(got == bytes, "the command wrote {got} bytes");
    Ok(())
}

/// Reads all that is and will be stored; returns how many bytes that were.
async fn drain(client: &Client, exec_id: &str) -> Result<u64> {
    let deadline = Instant::now() + WAIT;
    let mut offset = 0;
    loop {
        let part = client.output_part(exec_id, Stream::Stdout, offset).await?;
        offset += part.bytes.len() as u64;
        if part.bytes.is_empty() {
            if part.complete {
                return Ok(offset);
            }
            ensure!(Instant::now() < deadline, "the output is never complete");
            tokio::time::sleep(POLL).await;
        }
    }
}

/// In MB/s.
fn speed(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
