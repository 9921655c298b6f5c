//! Versions of the tenant's policy: show, set, list, compare.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use similar::TextDiff;

use super::{INVALID, load, read};
use crate::client::Client;
use crate::commands::listing;
use crate::connection::{Caller, Connection};
use crate::console;

/// A version as the control plane answers it.
#[derive(Debug, Serialize, Deserialize)]
struct Policy {
    version: i64,
    text: String,
    author: String,
    created_at: Option<String>,
}

async fn get(client: &Client, version: Option<i64>) -> Result<Policy> {
    let query = version.map(|version| format!("?version={version}")).unwrap_or_default();
    Ok(client.get(&format!("/v1/policy{query}")).await?)
}

pub(super) async fn show(connection: &Connection, version: Option<i64>) -> Result<u8> {
    let client = connection.client(Caller::Reviewer)?;
    let policy = get(&client, version).await?;
    if connection.json {
        console::print_json(&policy)?;
    } else {
        console::say(format_args!("version {}, by {}", policy.version, policy.author));
        console::print(policy.text.trim_end())?;
    }
    Ok(0)
}

pub(super) async fn set(connection: &Connection, file: &Path, expect: Option<i64>) -> Result<u8> {
    // The control plane checks it as well; here the message names the file.
    if load(Some(file))?.is_none() {
        return Ok(INVALID);
    }
    let client = connection.client(Caller::Owner)?;
    let mut body = json!({ "text": read(file)? });
    if let Some(version) = expect {
        body["expected_version"] = version.into();
    }
    let policy: Policy = client.put("/v1/policy", &body).await?;
    if connection.json {
        console::print_json(&policy)?;
    } else {
        console::print(format_args!("version {} is active", policy.version))?;
    }
    Ok(0)
}

pub(super) async fn list(connection: &Connection) -> Result<u8> {
    let client = connection.client(Caller::Reviewer)?;
    let items: Vec<Value> = listing::fetch(&client, "/v1/policy/versions").await?;
    listing::print(&items, connection.json, &["version", "created_at", "author", "bytes"])?;
    Ok(0)
}

pub(super) async fn diff(connection: &Connection, from: i64, to: Option<i64>) -> Result<u8> {
    let client = connection.client(Caller::Reviewer)?;
    let (from, to) = (get(&client, Some(from)).await?, get(&client, to).await?);
    let name = |policy: &Policy| {
        let when = policy.created_at.as_deref().unwrap_or("-");
        format!("version {} ({}, {when})", policy.version, policy.author)
    };
    let diff = TextDiff::from_lines(&from.text, &to.text)
        .unified_diff()
        .context_radius(3)
        .header(&name(&from), &name(&to))
        .to_string();
    if connection.json {
        let document = json!({ "from": from.version, "to": to.version, "diff": diff });
        console::print_json(&document)?;
    } else if !diff.is_empty() {
        console::print(diff.trim_end())?;
    }
    Ok(0)
}
