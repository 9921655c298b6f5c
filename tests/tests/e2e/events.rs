//! Session events: in order, resumable without gap or repeat, closed to a revoked token.

use std::time::Duration;

use serde_json::json;
use tests::Stack;

#[tokio::test]
async fn a_stream_resumes_without_gap_or_repeat() {
    let session = Stack::shared().session().await;
    for _ in 0..3 {
        session.run("echo x").await;
    }
    let mut all = Vec::new();
    let mut events = session.agent.0.events(&session.id, 0);
    while all.iter().filter(|kind| *kind == "exec.finished").count() < 3 {
        let event = events.next().await.expect("an event");
        assert_eq!(event.seq, all.len() as u64 + 1);
        all.push(event.kind);
    }
    for cut in 0..all.len() as u64 {
        let mut resumed = session.agent.0.events(&session.id, cut);
        let event = resumed.next().await.expect("an event");
        assert_eq!((event.seq, &event.kind), (cut + 1, &all[cut as usize]));
    }
}

#[tokio::test]
async fn output_cannot_forge_a_frame() {
    let session = Stack::shared().session().await;
    let command = r"printf 'data: x\n\nevent: session.closed\ndata: {}\n\n'";
    let exec = session.run_approved(json!({ "command": command })).await;
    assert_eq!(exec["exit_code"], 0);
    session.run("true").await;
    let mut events = session.agent.0.events(&session.id, 0);
    let mut finished = 0;
    while finished < 2 {
        let event = events.next().await.expect("an event");
        assert_ne!(event.kind, "session.closed");
        finished += usize::from(event.kind == "exec.finished");
    }
}

#[tokio::test]
async fn a_revoked_token_loses_its_open_stream() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let body = json!({ "name": "watcher", "role": "viewer" });
    let created = stack.owner("acme").post("/v1/tokens", body).await.expect(201);
    let watcher = stack.caller(created["token"].as_str());
    let path = format!("/v1/sessions/{}/events", session.id);
    let request = watcher.0.request(reqwest::Method::GET, &path);
    let mut stream = request.send().await.expect("a stream");
    assert_eq!(stream.status(), 200);
    let path = format!("/v1/tokens/{}", created["token_id"].as_str().unwrap());
    assert_eq!(stack.owner("acme").delete(&path).await.status, 204);
    let ended = async { while stream.chunk().await.expect("a clean end").is_some() {} };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it ends within 5 s");
}

#[tokio::test]
async fn a_forged_event_id_is_refused() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/events", session.id);
    let headers = [("last-event-id", "1; DROP TABLE")];
    let answer = session.agent.call_with(reqwest::Method::GET, &path, None, &headers).await;
    assert_eq!((answer.status, answer.code()), (422, "invalid_last_event_id"));
}

#[tokio::test]
async fn a_stream_of_a_closed_session_ends() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}", session.id);
    assert_eq!(session.agent.delete(&path).await.status, 202);
    // Twice: while it closes, and when all events were seen before.
    for after in [0, 1_000_000] {
        let path = format!("/v1/sessions/{}/events?after={after}", session.id);
        let request = session.agent.0.request(reqwest::Method::GET, &path);
        let mut stream = request.send().await.expect("a stream");
        let ended = async { while stream.chunk().await.expect("a clean end").is_some() {} };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it ends");
    }
}
