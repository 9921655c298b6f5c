//! Traces: one command is one trace, from the request through workflow and activities to the exec, and
//! nothing that a tenant wrote is in it. The collector is a real one as far as OTLP over HTTP goes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;
use tests::{Stack, TestSession};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const KEY: &str = "the collector's key";

/// Takes what is exported to it.
#[derive(Clone, Default)]
struct Collector {
    /// Each with the service that sent it.
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    /// Listens; gives its address too.
    fn start(runtime: &tokio::runtime::Handle) -> (Self, String) {
        let collector = Self::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("can be told");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let taking = collector.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("listens");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(taking.clone().take(stream));
            }
        });
        (collector, address)
    }

    /// Reads requests of one connection until it ends.
    async fn take(self, mut stream: TcpStream) -> Option<()> {
        let mut read = Vec::new();
        loop {
            let head = loop {
                if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                    break String::from_utf8(read.drain(..end + 4).collect()).ok()?;
                }
                if stream.read_buf(&mut read).await.ok()? == 0 {
                    return None;
                }
            };
            let lower = head.to_ascii_lowercase();
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            assert!(lower.contains("content-type: application/x-protobuf"), "{head}");
            assert!(head.contains(KEY), "{head}");
            let length = lower.split("content-length: ").nth(1)?;
            let length: usize = length.split("\r\n").next()?.parse().ok()?;
            while read.len() < length {
                if stream.read_buf(&mut read).await.ok()? == 0 {
                    return None;
                }
            }
            let body: Vec<u8> = read.drain(..length).collect();
            self.keep(&body);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
        }
    }

    fn keep(&self, body: &[u8]) {
        self.bytes.lock().expect("not poisoned").extend_from_slice(body);
        let request = ExportTraceServiceRequest::decode(body).expect("is protobuf");
        for resource in request.resource_spans {
            let attributes = resource.resource.expect("a resource").attributes;
            let service = attributes.iter().find(|attribute| attribute.key == "service.name");
            let service = service.and_then(|attribute| attribute.value.clone()?.value);
            let Some(Any::StringValue(service)) = service else { panic!("no service's name") };
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans.lock().expect("not poisoned").push((service.clone(), span));
            }
        }
    }

    /// Spans of the one trace that has a span with this attribute, once all of `wanted` are in it.
    async fn trace_of(&self, name: &str, value: &str, wanted: &[&str]) -> Vec<(String, Span)> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let spans = self.spans.lock().expect("not poisoned").clone();
            let ours = spans.iter().filter(|(_, span)| text(span, name) == value);
            let ids: BTreeSet<Vec<u8>> = ours.map(|(_, span)| span.trace_id.clone()).collect();
            assert!(ids.len() <= 1, "{value} is in {} traces", ids.len());
            let in_trace = |span: &Span| ids.contains(&span.trace_id);
            let trace: Vec<_> = spans.into_iter().filter(|(_, span)| in_trace(span)).collect();
            let has = |wanted: &&str| trace.iter().any(|pair| named(pair) == **wanted);
            if wanted.iter().all(has) {
                return trace;
            }
            let seen: Vec<String> = trace.iter().map(named).collect();
            assert!(Instant::now() < deadline, "{wanted:?} are not all in {seen:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// `service: span`.
fn named((service, span): &(String, Span)) -> String {
    format!("{}: {}", service.trim_start_matches("bulkhead-"), span.name)
}

/// An attribute that is a text; empty when there is none.
fn text(span: &Span, name: &str) -> String {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == name);
    match attribute.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Any::StringValue(text)) => text,
        _ => String::new(),
    }
}

/// One root, everything else directly below it, and nobody ends before it began.
fn assert_one_tree(trace: &[(String, Span)], root: &str) {
    let roots: Vec<_> = trace.iter().filter(|(_, span)| span.parent_span_id.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{:?}", trace.iter().map(named).collect::<Vec<_>>());
    assert_eq!(named(roots[0]), root);
    let root = &roots[0].1.span_id;
    for (service, span) in trace {
        assert!(
            span.parent_span_id.is_empty() || span.parent_span_id == *root,
            "{service} {span:?}"
        );
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_exec_is_one_trace_through_all_programs() {
    let (collector, address) = Collector::start(&tokio::runtime::Handle::current());
    let stack = tokio::task::spawn_blocking(move || {
        let headers = format!("authorization={KEY}");
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", headers.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ];
        Stack::start_with("traces", &env)
    })
    .await
    .expect("the stack starts");
    let session = stack.session().await;
    const POST: &str = "control-plane: POST /v1/sessions/{id}/execs";

    // Allowed: brought to its executor ahead of its workflow.
    let exec = session.run("echo secret-of-the-tenant").await;
    let id = exec["exec_id"].as_str().expect("an id").to_owned();
    let wanted = [
        POST,
        "control-plane: authorize",
        "executor: run_ahead",
        "executor: exec",
        "worker: authorize",
    ];
    let trace = collector.trace_of("bulkhead.exec.id", &id, &wanted).await;
    assert_one_tree(&trace, POST);
    let ran = trace.iter().find(|pair| named(pair) == "executor: exec").expect("it ran");
    assert_eq!(text(&ran.1, "bulkhead.outcome"), "exited");
    assert_eq!(text(&ran.1, "bulkhead.session.id"), session.id);

    // Asked about: by its workflow and the activity.
    let exec = session.run_approved(json!({
        "command": "touch asked-secret && echo said", "env": { "TOKEN": "env-secret" },
    }));
    let exec = exec.await;
    let id = exec["exec_id"].as_str().expect("an id").to_owned();
    let wanted =
        [POST, "worker: authorize", "executor: tool_exec", "executor: exec", "worker: record"];
    let trace = collector.trace_of("bulkhead.exec.id", &id, &wanted).await;
    assert_one_tree(&trace, POST);

    // By a model: the turn's request, its model calls, and the commands that they asked for.
    let prompt = "Use shell to run 'echo prompted-secret' and tell me the output.";
    let path = format!("/v1/sessions/{}/turns", session.id);
    let turn = session.agent.post(&path, json!({ "input": prompt })).await.expect(201);
    session.wait_turn(&turn).await;
    let id = turn["turn_id"].as_str().expect("an id").to_owned();
    let wanted = [
        "control-plane: POST /v1/sessions/{id}/turns",
        "worker: model_call",
        "worker: authorize",
        "executor: exec",
    ];
    let trace = collector.trace_of("bulkhead.turn.id", &id, &wanted).await;
    assert_one_tree(&trace, wanted[0]);

    what_a_client_says_is_not_believed(&collector, &session).await;
    assert_no_secrets(&stack, &collector);
}

async fn what_a_client_says_is_not_believed(collector: &Collector, session: &TestSession) {
    let headers = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    let path = format!("/v1/sessions/{}/execs", session.id);
    let body = Some(json!({ "command": "true", "wait_ms": 20_000 }));
    let answer = session.agent.call_with(reqwest::Method::POST, &path, body, &headers).await;
    let exec = answer.expect(201);
    let id = exec["exec_id"].as_str().expect("an id");
    let trace = collector.trace_of("bulkhead.exec.id", id, &["executor: exec"]).await;
    let claimed = [0x0a, 0xf7, 0x65, 0x19];
    assert!(trace.iter().all(|(_, span)| !span.trace_id.starts_with(&claimed)));
}

/// Neither commands nor prompts, output, names of variables, tokens or keys.
fn assert_no_secrets(stack: &Stack, collector: &Collector) {
    let bytes = collector.bytes.lock().expect("not poisoned").clone();
    let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(has("bulkhead.exec.id"), "something was exported");
    let dev = stack.dev();
    let tokens = &dev.tenants["acme"];
    for secret in [
        "secret",
        "TOKEN",
        "echo",
        "touch",
        "said",
        "Use shell",
        "bh_ey",
        KEY,
        "/work",
        "postgres://",
        tokens.agent_token.as_str(),
        tokens.owner_token.as_str(),
        dev.platform_token.as_str(),
    ] {
        assert!(!has(secret), "{secret} was exported");
    }
}
