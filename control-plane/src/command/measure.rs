//! `measure-append`: how many events per second the audit log of this database takes, written as the
//! service writes them. What it appends stays there for ever: for a database of its own.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use control_plane::ids;
use control_plane::store::{AuditEntry, Evidence, Store};
use domain::ids::{ExecId, SessionId, TenantId};
use serde_json::json;
use tokio::task::JoinSet;

const PROGRAMS: [&str; 8] = ["cat", "ls", "git", "cargo", "pytest", "rg", "sed", "make"];
const ACTIONS: [&str; 4] = ["exec.create", "exec.authorize", "exec.finish", "approval.decide"];
/// Events of one session.
const PER_SESSION: u64 = 200;
/// How long one commit may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What is appended.
#[derive(Args)]
pub(crate) struct MeasureConfig {
    /// Postgres, as the service's role
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Chains that are new
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    tenants: u16,
    /// The chain of this tenant instead
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Writers at once, shared among the chains
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    writers: u16,
    /// Events of one transaction
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    per_commit: u32,
    /// Events in all
    #[arg(long, default_value_t = 10_000)]
    events: u64,
}

/// Appends, and prints how long it took as JSON.
///
/// # Errors
/// When the database fails.
pub(crate) async fn measure_append(config: MeasureConfig) -> anyhow::Result<()> {
    let store = Store::connect_lazily(&config.database_url, config.writers.into())?;
    let chains: Vec<TenantId> = match config.tenant {
        Some(tenant) => vec![tenant],
        None => (0..config.tenants).map(|_| ids::new()).collect(),
    };
    let writers = u64::from(config.writers);
    let commits = config.events / u64::from(config.per_commit) / writers;
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for writer in 0..writers {
        let (store, chain) = (store.clone(), chains[writer as usize % chains.len()]);
        tasks.spawn(write(store, chain, writer, commits, config.per_commit));
    }
    let mut times = Vec::new();
    while let Some(written) = tasks.join_next().await {
        times.extend(written??);
    }
    let seconds = begin.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let events = commits * writers * u64::from(config.per_commit);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied();
    let told = json!({
        "events": events, "seconds": seconds, "per_second": events as f64 / seconds,
        "commit_p50_ms": at(0.5), "commit_p95_ms": at(0.95),
    });
    writeln!(std::io::stdout(), "{told}")?;
    Ok(())
}

async fn write(
    store: Store,
    chain: TenantId,
    writer: u64,
    commits: u64,
    per_commit: u32,
) -> anyhow::Result<Vec<f64>> {
    let (mut times, mut session): (Vec<f64>, SessionId) = (Vec::new(), ids::new());
    let mut number = 0;
    for _ in 0..commits {
        let begin = Instant::now();
        let one = async {
            let mut scope = store.tenant(chain).await?;
            for _ in 0..per_commit {
                number += 1;
                if number % PER_SESSION == 0 {
                    session = ids::new();
                }
                scope.append_audit(entry(session, writer, number));
            }
            scope.commit().await
        };
        tokio::time::timeout(LIMIT, one).await.context("the database does not answer")??;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}

/// Like that of a decision about a command.
fn entry(session: SessionId, writer: u64, number: u64) -> AuditEntry {
    let program = PROGRAMS[(number % PROGRAMS.len() as u64) as usize];
    let decision = audit::Decision {
        outcome: "allow".into(),
        rules: vec![format!("rule-{}", number % 20)],
        policy_version: Some(1),
        approver: None,
    };
    let evidence = Evidence {
        decision: Some(decision),
        reasons: vec![format!("reading with {program} is allowed")],
        programs: vec![program.into()],
        image_digest: Some(format!("sha256:{:064}", 0)),
        ..Evidence::default()
    };
    let command = format!("{program} --number {number} src/part-{}/file.rs", number % 1000);
    let action = ACTIONS[(number % ACTIONS.len() as u64) as usize];
    AuditEntry {
        actor: format!("agent {writer}"),
        session_id: Some(session),
        evidence,
        detail: json!({ "command": command, "order_sha256": format!("{number:064}") }),
        ..AuditEntry::by_part("policy", action, ids::new::<ExecId>())
    }
}
