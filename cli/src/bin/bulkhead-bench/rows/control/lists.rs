//! Every list over many rows: a million events and a hundred thousand execs, or fewer when quick.

use anyhow::{Result, ensure};
use cli::client::{Client, NewSession};
use cli::console;

use super::{psql_as_owner, tenant_id, timed};
use crate::bench::Bench;
use crate::report::Row;
use crate::stats::Samples;

/// Number of the first audit event that is made: beyond those that there are.
const FIRST_AUDIT: u32 = 10_000_000;
const SAMPLES: usize = 200;
const GOAL_MS: f64 = 20.0;

/// Measures it.
pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let (dev, sizes) = (&bench.stack.dev, &bench.sizes);
    let tenant = tenant_id(dev, "acme").await?;
    let owner = Client::new(&dev.api_url, Some(&dev.tenants["acme"].owner_token))?;
    let session = owner.create_session(&NewSession::default()).await?.session_id;
    let (execs, events) = (sizes.listed_execs, sizes.listed_events);
    console::say(format_args!("fills the tables: {execs} execs, {events} events"));
    fill(bench, &tenant, &session)?;
    // Its connections were closed meanwhile, and nobody could notice.
    let owner = Client::new(&dev.api_url, Some(&dev.tenants["acme"].owner_token))?;
    let middle = format!("{:032x}", execs / 2);
    let paths = [
        ("sessions", "/v1/sessions?limit=50".to_owned()),
        ("a session's execs", format!("/v1/sessions/{session}/execs?limit=50")),
        (
            "the same, far down",
            format!("/v1/sessions/{session}/execs?limit=50&cursor=exe_{middle}"),
        ),
        ("those that run", format!("/v1/sessions/{session}/execs?limit=50&state=running")),
        ("pending approvals", "/v1/approvals?state=pending&limit=50".to_owned()),
        ("audit events", format!("/v1/audit/events?limit=50&after={}", FIRST_AUDIT + events / 2)),
        ("tokens", "/v1/tokens?limit=50".to_owned()),
        ("executors", "/v1/executors?limit=50".to_owned()),
        ("usage", "/v1/usage".to_owned()),
    ];
    let mut rows = Vec::new();
    for (name, path) in paths {
        let mut times = Vec::new();
        for round in 0..SAMPLES + 10 {
            let (took, status) = timed(&owner, &path).await?;
            ensure!(status == 200, "{path} answered {status}");
            if round >= 10 {
                times.push(took);
            }
        }
        let times = Samples::times(times);
        let met = times.percentile(0.95) <= GOAL_MS;
        let row = Row::new(format!("list: {name}"), "ms", times);
        rows.push(row.goal(format!("p95 ≤ {GOAL_MS} ms"), met));
    }
    Ok(rows)
}

/// Rows as the service would have written them, but for what they say.
fn fill(bench: &Bench, tenant: &str, session: &str) -> Result<()> {
    let (execs, events) = (bench.sizes.listed_execs, bench.sizes.listed_events);
    let last = events + 99;
    let exec_rows = format!(
        "INSERT INTO execs (tenant_id, id, session_id, state, command, cwd, env, timeout_ms,
                            created_by, created_at, started_at, finished_at, duration_ms)
         SELECT '{tenant}', 'exe_' || lpad(to_hex(n), 32, '0'), '{session}', 'exited', 'true',
                '/work', '{{}}', 1000, 'tok', now() - (interval '1 s' * ({execs} - n)), now(),
                now(), 1
         FROM generate_series(1, {execs}) AS n"
    );
    let event_rows = format!(
        "INSERT INTO session_events (tenant_id, session_id, seq, type, data)
         SELECT '{tenant}', '{session}', n, 'exec.output', '{{\"stream\": \"stdout\"}}'
         FROM generate_series(100, {last}) AS n;
         UPDATE sessions SET next_event_seq = {last} + 1 WHERE id = '{session}'"
    );
    let audit = format!(
        "INSERT INTO audit_events (chain, seq, time_us, role, action, object, exec_id, outcome,
                                   detail_sha256, salt, actor, reasons, data, hash)
         SELECT '{tenant}', {FIRST_AUDIT} + n, n, 'agent', 'exec.finish', 'none',
                'exe_' || lpad(to_hex(n), 32, '0'), 'ok', nothing,
                substring(nothing FOR 16), 'bench', '{{}}', '{{}}', nothing
         FROM generate_series(1, {events}) AS n, decode(repeat('00', 32), 'hex') AS nothing"
    );
    // The ends of execs are on record before the execs are there: nothing has to be reconciled.
    for sql in [audit, exec_rows, event_rows] {
        psql_as_owner(bench, tenant, &sql)?;
    }
    Ok(())
}
