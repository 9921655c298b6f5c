//! Event streams: how many, how long, and what a reader that is too slow is told.

use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::{Method, Response};
use serde_json::json;
use tests::{Caller, Replica, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn open(caller: &Caller, session: &str) -> Response {
    let path = format!("/v1/sessions/{session}/events");
    caller.0.request(Method::GET, &path).send().await.expect("an answer")
}

/// Reads a stream to its end.
async fn read(response: Response) -> String {
    let mut bytes = response.bytes_stream();
    let mut all = Vec::new();
    while let Some(Ok(part)) = bytes.next().await {
        all.extend_from_slice(&part);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn a_token_has_so_many_streams_and_gets_one_back_when_one_ends() {
    let stack = Stack::shared();
    let replica = Replica::start(stack, &[("BULKHEAD_STREAMS_PER_TOKEN", "2")]).await;
    let session = stack.session().await;
    let viewer = replica.caller(Some(&stack.dev().tenants["acme"].viewer_token));
    let first = open(&viewer, &session.id).await;
    let second = open(&viewer, &session.id).await;
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let third = open(&viewer, &session.id).await;
    assert_eq!(third.status().as_u16(), 429);
    assert!(third.text().await.expect("a body").contains("too_many_streams"));
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(5);
    while open(&viewer, &session.id).await.status().as_u16() != 200 {
        assert!(Instant::now() < deadline, "the place is not free in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn revoking_a_token_ends_its_streams_within_five_seconds() {
    let stack = Stack::shared();
    let other = Replica::start(stack, &[]).await;
    let session = stack.session().await;
    let owner = stack.owner("acme");
    let body = json!({ "name": "streams", "role": "viewer" });
    let made = owner.post("/v1/tokens", body).await.expect(201);
    let here = open(&stack.caller(made["token"].as_str()), &session.id).await;
    let there = open(&other.caller(made["token"].as_str()), &session.id).await;
    assert_eq!((here.status().as_u16(), there.status().as_u16()), (200, 200));
    let path = format!("/v1/tokens/{}", made["token_id"].as_str().expect("an id"));
    assert_eq!(owner.delete(&path).await.status, 204);
    let both = async { tokio::join!(read(here), read(there)) };
    tokio::time::timeout(Duration::from_secs(5), both).await.expect("both end");
}

#[tokio::test]
async fn a_slow_reader_is_told_of_a_gap_and_let_go() {
    let stack = Stack::shared();
    let replica = Replica::start(stack, &[("BULKHEAD_STREAM_STALL_S", "5")]).await;
    let session = stack.session().await;
    fill(stack, &session.id).await;
    let address = replica.url().replace("http://", "");
    let mut reader = tokio::net::TcpStream::connect(address).await.expect("connects");
    let token = &stack.dev().tenants["acme"].viewer_token;
    let request = format!(
        "GET /v1/sessions/{}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n",
        session.id
    );
    reader.write_all(request.as_bytes()).await.expect("writes");
    // Nothing arrives: longer than one event may take (5 s), shorter than it takes to be cut off
    // (10 s). The server goes on for a while after that, as long as its own buffers take something.
    let mut seen = vec![0; 64 * 1024 * 1024];
    let (mut arrived, mut since) = (0, Instant::now());
    while arrived == 0 || since.elapsed() < Duration::from_millis(7500) {
        let now = reader.peek(&mut seen).await.expect("open");
        if now != arrived {
            (arrived, since) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut all = Vec::new();
    let end = reader.read_to_end(&mut all);
    let _ = tokio::time::timeout(Duration::from_secs(20), end).await;
    let text = String::from_utf8_lossy(&all);
    let gap = text.find("event: gap").expect("it is told");
    assert!(!text[gap..].contains("event: filler"), "and nothing follows");
    let after = text[gap..]
        .split("\"after\":")
        .nth(1)
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok());
    let last = text[..gap].rfind("\nid: ").map(|at| &text[at + 5..]);
    let last = last.and_then(|rest| rest.split('\n').next()?.trim().parse::<u64>().ok());
    assert_eq!(after, last, "it goes on where it was");
}

/// Gives a session more events than any buffer between us and the server holds.
async fn fill(stack: &Stack, session: &str) {
    let tenant = stack.tenant_id("acme").await;
    let sql = format!(
        "BEGIN; SELECT set_config('app.tenant_id', '{tenant}', true);
         INSERT INTO session_events (tenant_id, session_id, seq, type, data)
         SELECT '{tenant}', '{session}', seq, 'filler', jsonb_build_object('x', repeat('y', 4000))
         FROM generate_series(2, 8000) AS seq;
         UPDATE sessions SET next_event_seq = 8001 WHERE id = '{session}'; COMMIT"
    );
    stack.psql(&sql).expect("events are made");
}

#[tokio::test]
async fn a_stopping_control_plane_says_so_and_ends_its_streams() {
    let stack = Stack::shared();
    let replica = Replica::start(stack, &[]).await;
    let session = stack.session().await;
    let viewer = replica.caller(Some(&stack.dev().tenants["acme"].viewer_token));
    let stream = open(&viewer, &session.id).await;
    let killed =
        std::process::Command::new("kill").args(["-TERM", &replica.pid().to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    let text = tokio::time::timeout(Duration::from_secs(3), read(stream)).await.expect("it ends");
    assert!(text.contains("event: session.created"), "{text}");
}

#[tokio::test]
async fn output_cannot_forge_an_event() {
    let session = Stack::shared().session().await;
    let forged = "\n\nevent: session.closed\ndata: {\"seq\":99}\n\n";
    let path = format!("/v1/sessions/{}/turns", session.id);
    session.agent.post(&path, json!({ "input": forged })).await.expect(201);
    let (mut events, mut seen) = (session.agent.0.events(&session.id, 0), 0);
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(3), events.next()).await {
        seen += 1;
        let event = event.expect("an event");
        assert_eq!(event.seq, seen);
        assert_ne!(event.kind, "session.closed");
    }
    assert!(seen >= 3, "{seen}");
}
