//! `bulkhead audit erase` and `retention`: details of events go, and the chain still proves itself.

use anyhow::{Result, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::commands::listing;
use crate::connection::{Caller, Connection};

/// Whose details.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    scope: Scope,
    /// Yes, for good.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Scope {
    /// Of the events of this exec.
    #[arg(long, value_name = "ID")]
    exec: Option<String>,
    /// Of the events of this session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Of all events before this time, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
}

/// For how long details stay; nothing shows it.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct RetentionArguments {
    /// So many days.
    #[arg(long, value_name = "NUMBER")]
    days: Option<u32>,
    /// Until somebody erases them.
    #[arg(long)]
    forever: bool,
}

/// What one request erased.
#[derive(Deserialize)]
struct Erased {
    erased: i64,
    kept: Option<i64>,
    more: bool,
}

/// Erases, until there is no more.
pub(super) async fn run(connection: &Connection, arguments: &Arguments) -> Result<()> {
    if !arguments.yes {
        bail!("erased details cannot be brought back; say --yes if that is what you want");
    }
    let Scope { exec, session, before } = &arguments.scope;
    let mut body = serde_json::Map::new();
    for (name, value) in [("exec_id", exec), ("session_id", session), ("before", before)] {
        if let Some(value) = value {
            body.insert(name.into(), value.as_str().into());
        }
    }
    let client = connection.client(Caller::Owner)?;
    let mut total = 0;
    loop {
        let done: Erased = client.post("/v1/audit/erasures", &body).await?;
        total += done.erased;
        if !done.more {
            let said = json!({ "erased": total, "kept": done.kept });
            return listing::print_one(&said, connection.json);
        }
    }
}

/// Shows or puts for how long details stay.
pub(super) async fn retention(
    connection: &Connection,
    arguments: &RetentionArguments,
) -> Result<()> {
    let path = "/v1/audit/retention";
    let active: Value = match arguments {
        RetentionArguments { days: None, forever: false } => {
            connection.client(Caller::Reviewer)?.get(path).await?
        }
        RetentionArguments { days, .. } => {
            connection.client(Caller::Owner)?.put(path, &json!({ "days": days })).await?
        }
    };
    listing::print_one(&active, connection.json)
}
