//! From a command in a new session to its first byte: claimed from the pool, made cold, and the
//! same of Docker's own.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cli::client::NewSession;
use domain::limits::SandboxLimits;
use serde_json::Value;

use crate::bench::Bench;
use crate::report::Row;
use crate::stack::{Tenant, sandbox_of};
use crate::stats::Samples;

const CLAIM_GOAL_MS: f64 = 50.0;
const COLD_GOAL: f64 = 1.2;
/// How long a pool may take to be full again.
const FILL_LIMIT: Duration = Duration::from_secs(30);
/// A pool that does not grow for so long is full.
const STILL: Duration = Duration::from_millis(1500);
const POLL: Duration = Duration::from_millis(20);

struct Started {
    to_first_byte: Duration,
    with_session: Duration,
    container: String,
    sandbox: String,
}

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let tenant = bench.tenant()?;
    let mut pool = Pool::of(bench, tenant).await?;
    let mut claimed = (Vec::new(), Vec::new());
    let (mut cold, mut made, mut first) = (Vec::new(), Vec::new(), Vec::new());
    let other = SandboxLimits { pids: 100, ..SandboxLimits::default() };
    let other = NewSession { limits: Some(other), ..NewSession::default() };
    for _ in 0..bench.sizes.starts {
        pool.wait_until_full().await?;
        let warm = start(bench, tenant, &NewSession::default(), &mut pool).await?;
        ensure!(
            pool.is_from_it(&warm.container)?,
            "a session with default limits got no container \
             of the pool, though one waited"
        );
        claimed.0.push(warm.to_first_byte);
        claimed.1.push(warm.with_session);
        pool.wait_until_full().await?;
        let made_cold = start(bench, tenant, &other, &mut pool).await?;
        cold.push(made_cold.to_first_byte);
        let host = bench.equal_host_part(&made_cold.container)?;
        let (create, exec) = docker_start(bench, &host)?;
        made.push(create);
        first.push(exec);
    }
    let (made, first) = (Samples::times(made), Samples::times(first));
    let limit_ms = COLD_GOAL * made.p50() + first.p50();
    let (claimed, whole) = (Samples::times(claimed.0), Samples::times(claimed.1));
    let cold = Samples::times(cold);
    let (claim_met, cold_met) = (claimed.p50() <= CLAIM_GOAL_MS, cold.p50() <= limit_ms);
    let name = "first byte, new session, from the pool";
    Ok(vec![
        Row::new(name, "ms", claimed)
            .beside("Docker create+start", &made)
            .with("p50 with POST /sessions", whole.p50())
            .goal(format!("≤ {CLAIM_GOAL_MS} ms p50"), claim_met),
        Row::new("first byte, new session, made cold", "ms", cold)
            .beside("Docker create+start", &made)
            .goal(format!("≤ {COLD_GOAL} × create+start, + exec = {limit_ms:.0} ms"), cold_met),
        Row::new("  baseline: Docker API, create + start", "ms", made),
        Row::new("  baseline: its first exec", "ms", first),
    ])
}

async fn start(
    bench: &Bench,
    tenant: &Tenant,
    new: &NewSession,
    pool: &mut Pool<'_>,
) -> Result<Started> {
    let begin = Instant::now();
    let session = tenant.session(new).await?;
    let (exec, to_first_byte) = tenant.run(&session, "echo x").await?;
    let with_session = begin.elapsed();
    ensure!(exec.stdout.head == "x\n", "the first byte is not in the answer");
    let sandbox = sandbox_of(&exec)?;
    let container = bench.docker.of_sandbox(&sandbox)?;
    tenant.close(&session).await?;
    let started = Started { to_first_byte, with_session, container, sandbox };
    pool.taken.insert(started.sandbox.clone());
    Ok(started)
}

/// The times of create and start, and of the first exec.
fn docker_start(bench: &Bench, host: &Value) -> Result<(Duration, Duration)> {
    let begin = Instant::now();
    let id = bench.docker.start(&bench.image, host)?;
    let made = begin.elapsed();
    let begin = Instant::now();
    let outcome = bench.docker.exec(&id, &["echo", "x"]);
    let first = begin.elapsed();
    bench.docker.remove(&id)?;
    outcome.map(|()| (made, first))
}

/// The containers that wait for sessions: those of the pool that no session of ours got.
struct Pool<'a> {
    bench: &'a Bench,
    executor: String,
    taken: BTreeSet<String>,
    full: usize,
}

impl<'a> Pool<'a> {
    async fn of(bench: &'a Bench, tenant: &Tenant) -> Result<Self> {
        let session = tenant.session(&NewSession::default()).await?;
        let (exec, _) = tenant.run(&session, "true").await?;
        let sandbox = sandbox_of(&exec)?;
        let known = bench.docker.inspect(&bench.docker.of_sandbox(&sandbox)?)?;
        let executor = known["Config"]["Labels"]["bulkhead.executor"].as_str();
        let executor = executor.context("the container names no executor")?.to_owned();
        tenant.close(&session).await?;
        let mut pool = Self { bench, executor, taken: BTreeSet::from([sandbox]), full: 0 };
        // Sessions of other measurements may still be closing: what counts is when it is still.
        let deadline = Instant::now() + FILL_LIMIT;
        let mut since = Instant::now();
        while since.elapsed() < STILL && Instant::now() < deadline {
            let waiting = pool.waiting()?;
            if waiting != pool.full {
                (pool.full, since) = (waiting, Instant::now());
            }
            tokio::time::sleep(POLL).await;
        }
        ensure!(pool.full > 0, "the executor keeps no pool");
        Ok(pool)
    }

    fn waiting(&self) -> Result<usize> {
        let labels = [format!("bulkhead.executor={}", self.executor), "bulkhead.pool".into()];
        let found = self.bench.docker.list(&labels)?;
        let sandbox = |it: &Value| it["Labels"]["bulkhead.sandbox"].as_str().map(str::to_owned);
        let free = |it: &&Value| sandbox(it).is_some_and(|id| !self.taken.contains(&id));
        Ok(found.iter().filter(free).count())
    }

    async fn wait_until_full(&self) -> Result<()> {
        let deadline = Instant::now() + FILL_LIMIT;
        while self.waiting()? < self.full {
            ensure!(Instant::now() < deadline, "the pool is not filled again");
            tokio::time::sleep(POLL).await;
        }
        // Docker says that it runs before its PID 1 has reported to the executor.
        tokio::time::sleep(POLL * 10).await;
        Ok(())
    }

    fn is_from_it(&self, container: &str) -> Result<bool> {
        let known = self.bench.docker.inspect(container)?;
        Ok(known["Config"]["Labels"]["bulkhead.pool"].is_string())
    }
}
