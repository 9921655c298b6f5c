//! `bulkhead audit sampling`, `queue` and `figures`: what is put before reviewers, what waits for
//! them, and what came of it.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::client::encode;
use crate::commands::listing;
use crate::connection::{Caller, Connection};

/// Largest file of rules, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What to change; nothing shows what is there.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Arguments {
    /// Put the rules in this file: {"rules": [{"id", "one_in", "policy_rule"?, "program"?}]}; - is
    /// standard input.
    #[arg(long, value_name = "FILE")]
    set: Option<PathBuf>,
    /// Put one rule that draws one in so many of all execs that policy allows by itself.
    #[arg(long, value_name = "NUMBER")]
    every: Option<u32>,
    /// Put no rules: nothing is drawn any more.
    #[arg(long)]
    off: bool,
}

/// Which figures.
#[derive(Debug, Args)]
pub(super) struct FigureArguments {
    /// Of execs that were asked for at this time or later, such as 2026-01-31T12:00:00Z; the last 30
    /// days if left out.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// And before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Shows or puts the sampling rules.
pub(super) async fn run(connection: &Connection, arguments: &Arguments) -> Result<()> {
    let path = "/v1/audit/sampling";
    let body = match arguments {
        Arguments { set: Some(file), .. } => Some(read(file)?),
        Arguments { every: Some(one_in), .. } => {
            Some(json!({ "rules": [{ "id": "all", "one_in": one_in }] }))
        }
        Arguments { off: true, .. } => Some(json!({ "rules": [] })),
        _ => None,
    };
    let active: Value = match body {
        Some(body) => connection.client(Caller::Owner)?.put(path, &body).await?,
        None => connection.client(Caller::Reviewer)?.get(path).await?,
    };
    if connection.json {
        return listing::print_one(&active, true);
    }
    let rules = active["rules"].as_array().cloned().unwrap_or_default();
    listing::print(&rules, false, &["id", "one_in", "policy_rule", "program"])
}

/// Lists what waits for a review.
pub(super) async fn queue(connection: &Connection, newest: bool) -> Result<()> {
    let client = connection.client(Caller::Reviewer)?;
    let order = if newest { "newest" } else { "oldest" };
    let path = format!("/v1/audit/queue?limit=200&order={order}");
    let items = listing::fetch(&client, &path).await?;
    listing::print(
        &items,
        connection.json,
        &["seq", "exec_id", "sampled_by", "sampled_at", "command"],
    )
}

/// Shows the figures.
pub(super) async fn figures(connection: &Connection, arguments: &FigureArguments) -> Result<()> {
    let client = connection.client(Caller::Reviewer)?;
    let values = [("since", &arguments.since), ("until", &arguments.until)];
    let given = values.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let query: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let figures: Value = client.get(&format!("/v1/audit/figures?{}", query.join("&"))).await?;
    listing::print_one(&figures, connection.json)
}

fn read(file: &Path) -> Result<Value> {
    let mut text = String::new();
    let source: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(stdin()),
        _ => Box::new(File::open(file).with_context(|| format!("cannot read {}", file.display()))?),
    };
    source
        .take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))
}
