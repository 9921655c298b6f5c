//! Looking up in a long log: the first page behind every filter that there is.

use anyhow::{Context, Result, ensure};
use cli::client::Client;
use cli::dev_file::DevFile;
use serde_json::Value;

use crate::report::Row;
use crate::rows::control::timed;
use crate::stats::Samples;

const SAMPLES: usize = 60;
const WARM_UP: usize = 3;
const GOAL_MS: f64 = 50.0;

/// Measures it.
pub(super) async fn measure(dev: &DevFile, events: u32) -> Result<Vec<Row>> {
    let reviewer = Client::new(&dev.api_url, Some(&dev.tenants["acme"].reviewer_token))?;
    let some = some_event(&reviewer, events / 2).await?;
    let text = |name: &str| some[name].as_str().map(str::to_owned).with_context(|| name.to_owned());
    let (session, object, time) = (text("session_id")?, text("object")?, text("time")?);
    let filters = [
        ("none", String::new()),
        ("session", format!("&session_id={session}")),
        ("exec", format!("&exec_id={object}")),
        ("object", format!("&object={object}")),
        ("action", "&action=exec.finish".into()),
        ("actor", "&actor=agent%200".into()),
        ("decision", "&decision=allow".into()),
        ("rule", "&rule=rule-7".into()),
        ("program", "&program=pytest".into()),
        ("since", format!("&since={}", time.replace('+', "%2B"))),
        ("text, frequent", "&q=reading".into()),
        ("text, two words", "&q=cargo%20part-3".into()),
        ("text, nowhere", "&q=nosuchword".into()),
        ("rule and program that never met", "&rule=rule-7&program=git".into()),
    ];
    let mut rows = Vec::new();
    for (name, filter) in filters {
        let path = format!("/v1/audit/events?limit=50{filter}");
        let mut times = Vec::new();
        for round in 0..SAMPLES + WARM_UP {
            let (took, status) = timed(&reviewer, &path).await?;
            ensure!(status == 200, "{path} answered {status}");
            if round >= WARM_UP {
                times.push(took);
            }
        }
        let times = Samples::times(times);
        let met = times.percentile(0.95) <= GOAL_MS;
        let row = Row::new(format!("filter: {name}"), "ms", times);
        rows.push(row.goal(format!("p95 ≤ {GOAL_MS} ms"), met));
    }
    Ok(rows)
}

/// One behind `after`.
async fn some_event(reviewer: &Client, after: u32) -> Result<Value> {
    let path = format!("/v1/audit/events?limit=50&after={after}");
    let page: Value = reviewer.get(&path).await?;
    let mut items = page["items"].as_array().into_iter().flatten();
    let is_full = |event: &&Value| event["exec_id"].is_string() && event["session_id"].is_string();
    items.find(is_full).cloned().context("no event about an exec")
}
