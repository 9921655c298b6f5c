//! `Idempotency-Key`: the same request sent twice runs once.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Stack, TestSession};

async fn post(session: &TestSession, key: &str, body: Value) -> Answer {
    let path = format!("/v1/sessions/{}/execs", session.id);
    session.agent.call_with(Method::POST, &path, Some(body), &[("idempotency-key", key)]).await
}

#[tokio::test]
async fn a_repeat_finds_the_first() {
    let session = Stack::shared().session().await;
    let key = format!("repeat-{}", session.id);
    let body = json!({ "command": "echo once", "wait_ms": 20_000 });
    let (first, second) =
        tokio::join!(post(&session, &key, body.clone()), post(&session, &key, body.clone()));
    // While one is being written down, the other is told to come back.
    let (first, second) = if first.status == 201 { (first, second) } else { (second, first) };
    let first = first.expect(201);
    match second.status {
        409 => assert_eq!(second.code(), "idempotency_key_in_use"),
        _ => assert_eq!(first["exec_id"], second.expect(201)["exec_id"]),
    }
    let again = post(&session, &key, body).await.expect(201);
    assert_eq!(first["exec_id"], again["exec_id"]);
    let path = format!("/v1/sessions/{}/execs", session.id);
    let listed = session.agent.get(&path).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused() {
    let session = Stack::shared().session().await;
    let key = format!("other-{}", session.id);
    post(&session, &key, json!({ "command": "echo a" })).await.expect(201);
    let answer = post(&session, &key, json!({ "command": "echo b" })).await;
    assert_eq!((answer.status, answer.code()), (422, "idempotency_key_reused"));
}
