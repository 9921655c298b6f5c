//! The control plane by itself: what a token check costs, lists over many rows, many event streams.
//! Only measured when asked for (`--control-plane`): it fills the database of the stack.

mod lists;
mod streams;
mod tokens;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cli::client::Client;
use cli::dev_file::DevFile;
use reqwest::Method;

use crate::bench::Bench;
use crate::report::Row;

/// Measures it.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let dev = &bench.stack.dev;
    let mut rows = tokens::measure(dev).await?;
    // Before the tables are full: the memory is that of the streams.
    rows.extend(streams::measure(dev).await?);
    rows.extend(lists::measure(bench).await?);
    Ok(rows)
}

/// Runs SQL as the service's own role, in the scope of a tenant.
pub(super) fn psql(dev: &DevFile, tenant_id: &str, sql: &str) -> Result<String> {
    run_psql(&dev.database_url, tenant_id, sql)
}

/// The same as the owner of the tables: the service's role cannot make up audit events.
fn psql_as_owner(bench: &Bench, tenant_id: &str, sql: &str) -> Result<String> {
    let file = std::fs::read(bench.data_dir.join("secrets/postgres.json"))?;
    let passwords: serde_json::Value = serde_json::from_slice(&file)?;
    let password = passwords["owner"].as_str().context("no password of the owner")?;
    let url = &bench.stack.dev.database_url;
    let (_, place) = url.split_once('@').context("a database URL without a host")?;
    run_psql(&format!("postgres://bulkhead_owner:{password}@{place}"), tenant_id, sql)
}

fn run_psql(url: &str, tenant_id: &str, sql: &str) -> Result<String> {
    let scope = format!("SELECT set_config('app.tenant_id', '{tenant_id}', true)");
    let output = Command::new("psql")
        .args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c"])
        .arg(format!("BEGIN; {scope}; SET LOCAL statement_timeout = '10min'; {sql}; COMMIT"))
        .arg(url)
        .output()
        .context("psql does not run")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// One request: its time and its status.
pub(super) async fn timed(client: &Client, path: &str) -> Result<(Duration, u16)> {
    let begin = Instant::now();
    let answer = client.request(Method::GET, path).send().await?;
    let status = answer.status().as_u16();
    answer.bytes().await?;
    Ok((begin.elapsed(), status))
}

/// The id of a tenant.
pub(super) async fn tenant_id(dev: &DevFile, name: &str) -> Result<String> {
    let platform = Client::new(&dev.api_url, Some(&dev.platform_token))?;
    let tenants: serde_json::Value = platform.get("/v1/tenants?limit=200").await?;
    let mut items = tenants["items"].as_array().into_iter().flatten();
    let found = items.find(|tenant| tenant["name"] == name).context("no such tenant")?;
    Ok(found["tenant_id"].as_str().context("a tenant without an id")?.to_owned())
}
