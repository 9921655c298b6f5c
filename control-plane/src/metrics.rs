//! What the control plane counts, for Prometheus. Labels are methods, routes and statuses: nothing
//! here names a tenant, an object or a caller.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the histogram, in seconds.
const BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    method: String,
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    method: String,
    route: String,
    status: u64,
}

/// What is true at the moment of asking.
pub struct Now {
    /// Open event streams.
    pub streams: usize,
    /// Whether announcements from the database arrive.
    pub is_listening: bool,
    /// Whether revocations are known.
    pub knows_revocations: bool,
    /// Whether Temporal can be reached.
    pub reaches_temporal: bool,
    /// Connections to the database, and how many of them rest.
    pub connections: (u32, usize),
    /// Messages for workflows that wait; none when the database does not answer.
    pub outbox: Option<i64>,
}

/// See the module.
pub struct Metrics {
    registry: Registry,
    answers: Family<Answer, Counter>,
    durations: Family<Route, Histogram>,
    gauges: [Gauge; 7],
    /// Execs whose outcome nobody told, closed as `unknown`.
    pub reconciled: Counter,
    /// Audit events whose details were erased because their time was over.
    pub erased: Counter,
    /// Audit events that stand in full blocks and are not indexed yet.
    pub unindexed: Gauge,
}

const GAUGES: [(&str, &str); 7] = [
    ("bulkhead_event_streams", "Open event streams"),
    ("bulkhead_database_listening", "1 while announcements from the database arrive"),
    ("bulkhead_revocations_known", "1 while revocations are fresh enough to let anybody in"),
    ("bulkhead_temporal_connected", "1 while Temporal can be reached"),
    ("bulkhead_database_connections", "Connections to the database"),
    ("bulkhead_database_connections_idle", "Connections to the database that rest"),
    ("bulkhead_outbox_messages", "Messages for workflows that wait; -1 without a database"),
];

const COUNTERS: [(&str, &str); 2] = [
    (
        "bulkhead_execs_reconciled",
        "Execs and work on files without an outcome on record, closed as unknown",
    ),
    ("bulkhead_audit_details_erased", "Audit events whose details were erased after their time"),
];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let answers = Family::default();
        registry.register("bulkhead_http_requests", "Answered requests", answers.clone());
        let durations: Family<Route, Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let help = "Time until an answer began";
        let name = "bulkhead_http_request_duration";
        registry.register_with_unit(name, help, Unit::Seconds, durations.clone());
        let gauges = GAUGES.map(|(name, help)| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        });
        let [reconciled, erased] = COUNTERS.map(|(name, help)| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        });
        let unindexed = Gauge::default();
        let help = "Audit events that wait for being indexed";
        registry.register("bulkhead_audit_events_unindexed", help, unindexed.clone());
        Self { registry, answers, durations, gauges, reconciled, erased, unindexed }
    }
}

impl Metrics {
    /// Counts an answered request.
    pub fn count(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        let by_route = Route { method: method.clone(), route: route.clone() };
        self.durations.get_or_create(&by_route).observe(took.as_secs_f64());
        self.answers.get_or_create(&Answer { method, route, status: status.into() }).inc();
    }

    /// Everything as OpenMetrics text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, now: &Now) -> Result<String, fmt::Error> {
        let values = [
            i64::try_from(now.streams).unwrap_or(i64::MAX),
            now.is_listening.into(),
            now.knows_revocations.into(),
            now.reaches_temporal.into(),
            now.connections.0.into(),
            i64::try_from(now.connections.1).unwrap_or(i64::MAX),
            now.outbox.unwrap_or(-1),
        ];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(value);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
