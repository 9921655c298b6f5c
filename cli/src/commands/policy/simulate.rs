//! `bulkhead policy simulate`: what a draft would have decided on the commands of the past.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::{INVALID, load, read};
use crate::connection::{Caller, Connection};
use crate::console;

/// Arguments of `bulkhead policy simulate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The draft.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// How far back to look, such as 30d or 12h, or a time.
    #[arg(long, default_value = "30d")]
    since: String,
}

pub(super) async fn run(connection: &Connection, arguments: Arguments) -> Result<u8> {
    if load(Some(&arguments.policy))?.is_none() {
        return Ok(INVALID);
    }
    let client = connection.client(Caller::Reviewer)?;
    let body = json!({ "text": read(&arguments.policy)?, "since": arguments.since });
    let answer: Value = client.post("/v1/policy/simulate", &body).await?;
    if connection.json {
        console::print_json(&answer)?;
        return Ok(0);
    }
    let (commands, distinct) = (&answer["commands"], &answer["distinct"]);
    let part = if answer["complete"] == true { "" } else { ", the newest of them" };
    console::print(format_args!("{commands} commands ({distinct} different){part}"))?;
    let flips = answer["flips"].as_array().map(Vec::as_slice).unwrap_or_default();
    if flips.is_empty() {
        console::print("the draft decides all of them as they were decided")?;
    }
    flips.iter().try_for_each(print_flip)?;
    Ok(0)
}

fn print_flip(flip: &Value) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (from, to) = (text(&flip["from"]), text(&flip["to"]));
    console::print(format_args!("{from} -> {to}: {}", flip["count"]))?;
    for example in flip["examples"].as_array().into_iter().flatten() {
        let command = console::printable(&text(&example["command"]));
        console::print(format_args!("  {:>6} x  {command}", example["count"].to_string()))?;
    }
    Ok(())
}
