//! Clients that stop reading keep nobody else from the executor.

use reqwest::Method;
use serde_json::json;
use tests::Stack;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_downloads_of_a_session_take_its_share_and_no_more() {
    let stack = Stack::shared();
    let (slow, other) = (stack.session().await, stack.session().await);
    let big = slow.run_approved(json!({ "command": "head -c 60000000 /dev/zero > big" })).await;
    assert_eq!(big["exit_code"], 0, "{big}");
    let get = |path: &str| {
        let path = format!("/v1/sessions/{}/files/{path}", slow.id);
        slow.agent.0.request(Method::GET, &path).send()
    };
    // Their bodies are never read.
    let stalled = futures::future::join_all((0..16).map(|_| get("big"))).await;
    let stalled: Vec<_> = stalled.into_iter().map(|answer| answer.expect("it begins")).collect();
    assert!(stalled.iter().all(|answer| answer.status() == 200), "{stalled:?}");
    let refused = get("big").await.expect("an answer");
    assert_eq!(refused.status(), 429);
    let refused: serde_json::Value = refused.json().await.expect("JSON");
    assert_eq!(refused["code"], "too_many_calls", "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|it| it.contains("session has 16 calls")));
    // Another session of the same tenant is served, by the same executor.
    let path = format!("/v1/sessions/{}/files/mine", other.id);
    assert_eq!(other.agent.call(Method::PUT, &path, Some(json!("mine"))).await.status, 201);
    assert_eq!(other.agent.get(&path).await.text, "mine");
    drop(stalled);
}
