//! What idle sandboxes cost: the executor's memory, that of what runs in each, and the size of
//! the program in it.

use anyhow::{Context, Result};
use cli::client::NewSession;

use crate::bench::Bench;
use crate::host::{processes_beside, proportional_kib, resident_kib};
use crate::report::Row;
use crate::stack::sandbox_of;
use crate::stats::Samples;

const SANDBOX_GOAL_MIB: f64 = 3.0;
const PROGRAM_GOAL_MIB: f64 = 2.0;

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let tenant = bench.tenant()?;
    let before = mib(resident_kib(tenant.executor_pid)?);
    let (mut sessions, mut inits) = (Vec::new(), Vec::new());
    for _ in 0..bench.sizes.idle {
        let session = tenant.session(&NewSession::default()).await?;
        let (exec, _) = tenant.run(&session, "true").await?;
        sessions.push(session);
        let known = bench.docker.inspect(&bench.docker.of_sandbox(&sandbox_of(&exec)?)?)?;
        let pid = known["State"]["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        inits.push(pid.context("a container has no process")?);
    }
    let after = mib(resident_kib(tenant.executor_pid)?);
    let (mut resident, mut whole) = (Vec::new(), Vec::new());
    for pid in inits {
        resident.push(mib(resident_kib(pid)?));
        let beside = processes_beside(pid)?;
        whole.push(beside.iter().filter_map(|pid| proportional_kib(*pid).ok()).map(mib).sum());
    }
    for session in &sessions {
        tenant.close(session).await?;
    }
    let (resident, count) = (Samples::new(resident), sessions.len());
    let met = resident.percentile(1.0) <= SANDBOX_GOAL_MIB;
    let mut rows = vec![
        Row::new(format!("the executor's memory, {count} idle sandboxes"), "MiB", one(after))
            .with("before", before)
            .with("KiB per sandbox", (after - before) * 1024.0 / count as f64),
        Row::new("resident memory of an idle sandbox's PID 1", "MiB", resident)
            .with("p50 of all its processes' share", Samples::new(whole).p50())
            .goal(format!("≤ {SANDBOX_GOAL_MIB} MiB"), met),
    ];
    if let Some(path) = &bench.sandbox_init {
        let bytes = std::fs::metadata(path).context("cannot weigh sandbox-init")?.len();
        let size = bytes as f64 / (1 << 20) as f64;
        rows.push(
            Row::new("size of sandbox-init", "MiB", one(size))
                .goal(format!("≤ {PROGRAM_GOAL_MIB} MiB"), size <= PROGRAM_GOAL_MIB),
        );
    }
    Ok(rows)
}

fn one(number: f64) -> Samples {
    Samples::new([number])
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
