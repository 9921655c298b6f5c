//! Many sessions of all tenants at once.

use std::time::{Duration, Instant};

use anyhow::Result;
use cli::client::NewSession;
use futures::future::join_all;

use crate::bench::Bench;
use crate::report::Row;
use crate::stack::Tenant;
use crate::stats::Samples;

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let tenants = bench.stack.tenants.iter().take(2);
    let tenants: Vec<&Tenant> = tenants.cycle().take(bench.sizes.parallel).collect();
    let mut sessions = Vec::new();
    for &tenant in &tenants {
        let session = tenant.session(&NewSession::default()).await?;
        tenant.run(&session, "true").await?;
        sessions.push((tenant, session));
    }
    let begin = Instant::now();
    let work =
        sessions.iter().map(|(tenant, session)| work(tenant, session, bench.sizes.parallel_execs));
    let outcomes = join_all(work).await;
    let took = begin.elapsed();
    for (tenant, session) in &sessions {
        tenant.close(session).await?;
    }
    let (mut times, mut errors) = (Vec::new(), 0);
    for outcome in outcomes.into_iter().flatten() {
        match outcome {
            Ok(time) => times.push(time),
            Err(problem) => {
                errors += 1;
                cli::console::say(format_args!("parallel: {problem:#}"));
            }
        }
    }
    let rate = times.len() as f64 / took.as_secs_f64();
    let (count, execs) = (sessions.len(), bench.sizes.parallel_execs);
    let name = format!("{count} sessions of 2 tenants at once, {execs} × `true` each");
    Ok(vec![
        Row::new(name, "ms", Samples::times(times))
            .with("execs/s", rate)
            .with("errors", f64::from(errors))
            .goal("0 errors", errors == 0),
    ])
}

async fn work(tenant: &Tenant, session: &str, execs: u32) -> Vec<Result<Duration>> {
    let mut outcomes = Vec::new();
    for _ in 0..execs {
        outcomes.push(tenant.run(session, "true").await.map(|(_, took)| took));
    }
    outcomes
}
