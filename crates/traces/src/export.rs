//! The way to the collector: spans are gathered and sent in batches, from a thread of their own. A
//! collector that is away costs spans, never requests.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use reqwest::redirect::Policy;
use tokio::runtime::Handle;

use crate::TraceConfig;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long what is left may take when the process ends.
const LAST: Duration = Duration::from_secs(2);
/// Longest answer of a collector that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Traces cannot be exported as configured.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is none, or no HTTP one.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT must be an address such as http://localhost:4318")]
    Endpoint,
    /// The headers are not `name=value` with commas between. They are secret: not quoted.
    #[error("OTEL_EXPORTER_OTLP_HEADERS must be name=value, with commas between")]
    Headers,
    /// The exporter could not be made.
    #[error("traces cannot be exported: {0}")]
    Exporter(String),
    /// There is one already.
    #[error("traces are exported already")]
    Twice,
}

/// Traces are exported until this is told to stop.
pub struct Exporting(Option<SdkTracerProvider>);

/// Starts exporting, if an address is configured. `service` names the program.
///
/// # Errors
/// See [`StartError`].
pub fn start(
    config: &TraceConfig,
    service: &'static str,
    runtime: &Handle,
) -> Result<Exporting, StartError> {
    let Some(base) = config.otlp_endpoint.as_deref().filter(|base| !base.is_empty()) else {
        return Ok(Exporting(None));
    };
    let address: reqwest::Url = base.parse().map_err(|_| StartError::Endpoint)?;
    if !matches!(address.scheme(), "http" | "https") {
        return Err(StartError::Endpoint);
    }
    let headers = headers(config.otlp_headers.as_deref().unwrap_or_default())?;
    let failed = |error: &dyn std::error::Error| StartError::Exporter(error.to_string());
    let http = reqwest::Client::builder()
        .timeout(TIMEOUT)
        // A redirect could carry the headers somewhere else.
        .redirect(Policy::none())
        .build()
        .map_err(|error| failed(&error))?;
    let client = Collector { http, runtime: runtime.clone(), is_failing: AtomicBool::new(false) };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{}/v1/traces", base.trim_end_matches('/')))
        .with_headers(headers)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| failed(&error))?;
    let resource = Resource::builder_empty().with_service_name(service).build();
    let provider =
        SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    TRACER.set(provider.tracer("bulkhead")).map_err(|_| StartError::Twice)?;
    tracing::info!("traces are exported");
    Ok(Exporting(Some(provider)))
}

impl Exporting {
    /// Sends what is left, for a moment. To be called while the runtime still runs, and not from
    /// within it.
    pub fn stop(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(LAST)
        {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

/// What makes spans; none where nothing is exported.
pub(crate) fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}

fn headers(text: &str) -> Result<HashMap<String, String>, StartError> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or(StartError::Headers)?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// Sends batches on our runtime, from the exporter's thread, which has none.
#[derive(Debug)]
struct Collector {
    http: reqwest::Client,
    runtime: Handle,
    /// Said once, until it is well again.
    is_failing: AtomicBool,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.spawn(send(self.http.clone(), request)).await;
        let answer = sent.map_err(HttpError::from).and_then(|answer| answer);
        let fails = !answer.as_ref().is_ok_and(|answer| answer.status().is_success());
        if fails && !self.is_failing.swap(fails, Ordering::Relaxed) {
            let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            tracing::warn!(status, "the collector does not take traces; they are dropped");
        }
        self.is_failing.store(fails, Ordering::Relaxed);
        answer
    }
}

async fn send(
    http: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let (parts, body) = request.into_parts();
    let url = parts.uri.to_string();
    let mut response =
        http.request(parts.method, url).headers(parts.headers).body(body).send().await?;
    let mut answer = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if answer.len() + piece.len() > MAX_ANSWER {
            break;
        }
        answer.extend_from_slice(&piece);
    }
    let mut whole = Response::new(Bytes::from(answer));
    *whole.status_mut() = response.status();
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_pairs() {
        let found = headers("a=b, authorization=Basic eD15,").expect("two");
        assert_eq!(found["a"], "b");
        assert_eq!(found["authorization"], "Basic eD15");
        assert!(headers("secret").is_err());
        assert!(headers("").is_ok_and(|none| none.is_empty()));
    }

    #[tokio::test]
    async fn without_an_address_nothing_is_exported_and_a_wrong_one_is_refused() {
        let with = |endpoint: Option<&str>| TraceConfig {
            otlp_endpoint: endpoint.map(ToOwned::to_owned),
            otlp_headers: None,
        };
        let begin = |endpoint| start(&with(endpoint), "test", &Handle::current());
        assert!(begin(None).is_ok_and(|exporting| exporting.0.is_none()));
        assert!(begin(Some("")).is_ok_and(|exporting| exporting.0.is_none()));
        for bad in ["localhost", "ftp://x", "grpc://x:4317"] {
            assert!(matches!(begin(Some(bad)), Err(StartError::Endpoint)), "{bad}");
        }
        let span = crate::Span::root("nothing", crate::Kind::Internal);
        assert!(span.traceparent().is_none());
    }
}
