//! From the request to call off a command that ignores SIGTERM to the death of its last process,
//! as the host sees it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cli::client::NewSession;

use crate::bench::Bench;
use crate::host::{living, processes_beside};
use crate::report::Row;
use crate::stack::sandbox_of;
use crate::stats::Samples;

/// Ignored by both of its sleepers too.
const COMMAND: &str = "trap '' TERM; sleep 999 & sleep 999";
const SLEEPERS: usize = 2;
/// In milliseconds, at p95.
const GOAL_MS: f64 = 500.0;
const LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(1);

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let tenant = bench.tenant()?;
    let session = tenant.session(&NewSession::default()).await?;
    let (exec, _) = tenant.run(&session, "true").await?;
    let known = bench.docker.inspect(&bench.docker.of_sandbox(&sandbox_of(&exec)?)?)?;
    let init = known["State"]["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let init = init.context("the container has no process")?;
    let (mut died, mut told) = (Vec::new(), Vec::new());
    for _ in 0..bench.sizes.cancels {
        let exec = tenant.start(&session, COMMAND).await?;
        let processes = wait_for_processes(init).await?;
        let begin = Instant::now();
        tenant.agent.cancel_exec(&exec.exec_id).await?;
        died.push(wait_for_death(&processes, begin).await?);
        tenant.finish(&exec.exec_id).await?;
        told.push(begin.elapsed());
    }
    tenant.close(&session).await?;
    let died = Samples::times(died);
    let met = died.percentile(0.95) <= GOAL_MS;
    Ok(vec![
        Row::new("cancel to the last process dead, TERM ignored", "ms", died)
            .with("p50 to the exec's end", Samples::times(told).p50())
            .goal(format!("≤ {GOAL_MS} ms p95"), met),
    ])
}

/// The shell of the command and its sleepers, once all of them are there.
async fn wait_for_processes(init: u32) -> Result<BTreeSet<u32>> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut found = BTreeSet::new();
        let mut sleepers = 0;
        for pid in processes_beside(init)? {
            match living(pid).as_deref() {
                Some("sleep") => sleepers += 1,
                Some("bash") => {}
                _ => continue,
            }
            found.insert(pid);
        }
        if sleepers >= SLEEPERS {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "the command's processes do not appear");
        tokio::time::sleep(POLL).await;
    }
}

async fn wait_for_death(processes: &BTreeSet<u32>, begin: Instant) -> Result<Duration> {
    while processes.iter().any(|pid| living(*pid).is_some()) {
        ensure!(begin.elapsed() < LIMIT, "processes outlive a command that was called off");
        tokio::time::sleep(POLL).await;
    }
    Ok(begin.elapsed())
}
