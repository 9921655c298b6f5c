//! A thousand event streams at once: memory, database listeners, and how long one event takes to
//! reach all of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cli::client::{Client, NewSession};
use cli::dev_file::DevFile;
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::{psql, tenant_id};
use crate::host::resident_kib;
use crate::report::Row;
use crate::stats::Samples;

const STREAMS: usize = 1000;
/// Below the cap of streams per token.
const PER_TOKEN: usize = 200;
const GOAL_MIB: f64 = 100.0;
const LIMIT: Duration = Duration::from_secs(60);

/// Measures it.
pub(super) async fn measure(dev: &DevFile) -> Result<Vec<Row>> {
    let owner = Client::new(&dev.api_url, Some(&dev.tenants["acme"].owner_token))?;
    let session = owner.create_session(&NewSession::default()).await?.session_id;
    let tenant = tenant_id(dev, "acme").await?;
    let before = count_listeners(dev, &tenant)?;
    let mut streams = Vec::new();
    for _ in 0..STREAMS / PER_TOKEN {
        let body = json!({ "name": "bench", "role": "viewer" });
        let made: Value = owner.post("/v1/tokens", &body).await?;
        let viewer = Client::new(&dev.api_url, made["token"].as_str())?;
        for _ in 0..PER_TOKEN {
            let path = format!("/v1/sessions/{session}/events");
            let request = viewer.request(Method::GET, &path).timeout(LIMIT * 2);
            let answer = request.send().await?;
            ensure!(answer.status().is_success(), "a stream was refused: {}", answer.status());
            streams.push(Box::pin(answer.bytes_stream()));
        }
    }
    for stream in &mut streams {
        stream.next().await.context("a stream ended")??;
    }
    // They rest now.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let pid = *dev.pids.get("control-plane").context("no control plane")?;
    let resident = resident_kib(pid)? as f64 / 1024.0;
    let more = count_listeners(dev, &tenant)? - before;

    let begin = Instant::now();
    owner.close_session(&session).await?;
    let all = streams.iter_mut().map(|stream| async move {
        stream.next().await;
        begin.elapsed()
    });
    let arrived = tokio::time::timeout(LIMIT, futures::future::join_all(all)).await?;
    Ok(vec![
        Row::new(format!("control plane's memory, {STREAMS} streams"), "MiB", one(resident))
            .with("database listeners, all programs", before)
            .with("more with the streams", more)
            .goal(
                format!("≤ {GOAL_MIB} MiB, no listener more"),
                resident <= GOAL_MIB && more <= 0.0,
            ),
        Row::new("one event to each of them", "ms", Samples::times(arrived)),
    ])
}

/// Connections that listen for announcements, of all programs together.
fn count_listeners(dev: &DevFile, tenant: &str) -> Result<f64> {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'listen %'";
    let said = psql(dev, tenant, count)?;
    Ok(said.lines().last().unwrap_or_default().parse()?)
}

fn one(number: f64) -> Samples {
    Samples::new([number])
}
