//! `bulkhead audit list`: filters, and following what is new.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::Value;
use tokio::time::sleep;

use crate::client::{Client, Page};
use crate::commands::listing;

/// How often to look for new events.
const LOOK: Duration = Duration::from_secs(1);
const COLUMNS: [&str; 6] = ["seq", "time", "actor", "action", "object", "outcome"];

/// Which events.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only those with a higher number.
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    /// Go on with new ones until interrupted.
    #[arg(long)]
    follow: bool,
}

/// What events must have.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Not before this time, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Who did it, as events name them.
    #[arg(long)]
    actor: Option<String>,
    /// What was done, such as exec.authorize.
    #[arg(long)]
    action: Option<String>,
    /// What it was done to.
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// The session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// The exec.
    #[arg(long, value_name = "ID")]
    exec: Option<String>,
    /// How it went, such as denied.
    #[arg(long)]
    outcome: Option<String>,
    /// allow, ask or deny.
    #[arg(long)]
    decision: Option<String>,
    /// A rule that decided.
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// A program that was to run.
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// Words that the event must have, all of them.
    #[arg(long, value_name = "WORDS")]
    q: Option<String>,
}

impl Filter {
    /// The query string, beginning with `&` if there is one.
    pub(super) fn query(&self) -> String {
        let values = [
            ("since", &self.since),
            ("until", &self.until),
            ("actor", &self.actor),
            ("action", &self.action),
            ("object", &self.object),
            ("session_id", &self.session),
            ("exec_id", &self.exec),
            ("outcome", &self.outcome),
            ("decision", &self.decision),
            ("rule", &self.rule),
            ("program", &self.program),
            ("q", &self.q),
        ];
        let given = values.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        given.map(|(name, value)| format!("&{name}={}", escaped(value))).collect()
    }
}

/// Everything but letters and digits, so that no value ends up as another parameter.
fn escaped(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => text.push(byte.into()),
            _ => text += &format!("%{byte:02X}"),
        }
        text
    })
}

/// Prints them.
pub(super) async fn run(client: &Client, arguments: &Arguments, json: bool) -> Result<()> {
    let path = format!("/v1/audit/events?limit=200{}", arguments.filter.query());
    let mut after = arguments.after.unwrap_or(0);
    if !arguments.follow {
        let items = listing::fetch(client, &format!("{path}&after={after}")).await?;
        return listing::print(&items, json, &COLUMNS);
    }
    loop {
        let page: Page<Value> = client.get(&format!("{path}&after={after}")).await?;
        let Some(last) = page.items.last() else {
            sleep(LOOK).await;
            continue;
        };
        after = last["seq"].as_u64().unwrap_or(after);
        listing::print(&page.items, json, &COLUMNS)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_one_value() {
        assert_eq!(escaped("rm -rf /&actor=x é"), "rm%20-rf%20%2F%26actor%3Dx%20%C3%A9");
    }
}
