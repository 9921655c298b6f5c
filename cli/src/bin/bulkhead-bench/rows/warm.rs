//! A command in a warm session beside `docker exec` and Docker's API, alternating, so that all
//! see the same machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cli::client::NewSession;

use crate::bench::Bench;
use crate::docker::exec_by_cli;
use crate::report::Row;
use crate::stats::Samples;

/// Of `docker exec`'s time, at p50.
const RATIO_GOAL: f64 = 0.45;

#[derive(Default)]
struct Times {
    nothing: Vec<Duration>,
    hello: Vec<Duration>,
    inside_ms: Vec<f64>,
    by_cli: Vec<Duration>,
    by_api: Vec<Duration>,
}

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let tenant = bench.tenant()?;
    let session = tenant.session(&NewSession::default()).await?;
    let container = bench.plain_container()?;
    let mut times = Times::default();
    for round in 0..bench.sizes.warm_up + bench.sizes.warm {
        let (exec, nothing) = tenant.run(&session, "true").await?;
        let (_, hello) = tenant.run(&session, "echo hello").await?;
        let begin = Instant::now();
        exec_by_cli(&container.id, &["true"]).await?;
        let by_cli = begin.elapsed();
        let begin = Instant::now();
        bench.docker.exec(&container.id, &["true"])?;
        let by_api = begin.elapsed();
        if round >= bench.sizes.warm_up {
            let inside = exec.rest.get("duration_ms").and_then(|ms| ms.as_f64());
            times.inside_ms.push(inside.context("the exec has no duration")?);
            times.nothing.push(nothing);
            times.hello.push(hello);
            times.by_cli.push(by_cli);
            times.by_api.push(by_api);
        }
    }
    tenant.close(&session).await?;
    Ok(rows(times))
}

fn rows(times: Times) -> Vec<Row> {
    let by_cli = Samples::times(times.by_cli);
    let by_api = Samples::times(times.by_api);
    let ours = |name: &str, times| {
        let samples = Samples::times(times);
        let met = samples.p50() / by_cli.p50() <= RATIO_GOAL;
        Row::new(name, "ms", samples)
            .beside("docker exec", &by_cli)
            .beside("Docker API", &by_api)
            .goal(format!("≤ {RATIO_GOAL} × docker exec (aim 0.27)"), met)
    };
    let inside = Samples::new(times.inside_ms);
    vec![
        ours("warm `true` over HTTP", times.nothing),
        ours("warm `echo hello` over HTTP", times.hello),
        // Whole milliseconds, that is what the API gives; workflow and database work beside it.
        Row::new("  of it inside, by sandbox-init's clock", "ms", inside),
        Row::new("  baseline: `docker exec` of `true`", "ms", by_cli),
        Row::new("  baseline: Docker API, create + start + inspect", "ms", by_api),
    ]
}
