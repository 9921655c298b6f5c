//! The Temporal development server: durable, and tuned so that a hop does not wait for its poll
//! interval (`reference/temporal-rust.md` section 0b: five times faster per command).

use std::time::Duration;

use reqwest::Method;

use super::layout::Layout;
use super::programs::Programs;
use super::service::{Service, Stage};
use crate::client::Client;

/// Name of the service.
pub(super) const NAME: &str = "temporal";
/// How long it may take to be ready.
pub(super) const START_LIMIT: Duration = Duration::from_secs(30);
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// The dev server reads its queues 20 times a second by default, and one partition is enough.
const TUNING: [&str; 5] = [
    "history.transferProcessorMaxPollRPS=10000",
    "history.timerProcessorMaxPollRPS=10000",
    "history.visibilityProcessorMaxPollRPS=10000",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
];

/// The server on these two ports.
pub(super) fn service(layout: &Layout, programs: &Programs, port: u16, http_port: u16) -> Service {
    let database = layout.temporal().join("temporal.db");
    Service::new(layout, Stage::Ground, NAME, &programs.temporal)
        .args(["server", "start-dev", "--headless", "--ip", "127.0.0.1", "--log-level", "warn"])
        .args(["--port".to_owned(), port.to_string()])
        .args(["--http-port".to_owned(), http_port.to_string()])
        .args(["--db-filename".into(), database.into_os_string()])
        .args(["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"])
        .args(["--search-attribute", "TenantId=Keyword"])
        .args(TUNING.iter().flat_map(|setting| ["--dynamic-config-value", setting]))
}

/// Whether the namespace and the search attribute are there, not just the port. `http` talks to
/// the server's HTTP port.
pub(super) async fn is_ready(http: &Client) -> bool {
    let path = "/cluster/namespaces/default/search-attributes";
    let request = http.request(Method::GET, path).timeout(PROBE_LIMIT);
    let answer = http.json::<serde_json::Value>(request).await;
    answer.is_ok_and(|found| found["customAttributes"]["TenantId"].is_string())
}
