//! Approvals: decided once, by somebody else, for exactly what was shown.

use serde_json::json;
use tests::Stack;

#[tokio::test]
async fn the_first_decision_stands() {
    let session = Stack::shared().session().await;
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let approval_id = session.approval_of(&exec).await;
    session.decide(&approval_id, "deny", None).await;
    let path = format!("/v1/approvals/{approval_id}/decision");
    let late = session.reviewer.post(&path, json!({ "decision": "approve" })).await;
    assert_eq!((late.status, late.code()), (409, "approval_settled"));
    assert_eq!(session.wait(&exec).await["state"], "denied");
}

#[tokio::test]
async fn two_reviewers_at_once_make_one_decision() {
    let session = Stack::shared().session().await;
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let path = format!("/v1/approvals/{}/decision", session.approval_of(&exec).await);
    let decide =
        |decision: &'static str| session.reviewer.post(&path, json!({ "decision": decision }));
    let (yes, no) = tokio::join!(decide("approve"), decide("deny"));
    let mut statuses = [yes.status, no.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let state = session.wait(&exec).await["state"].clone();
    assert_eq!(state, if yes.status == 200 { "exited" } else { "denied" });
}

#[tokio::test]
async fn whoever_asked_cannot_approve() {
    let stack = Stack::shared();
    let owner = stack.owner("acme");
    let session = owner.post("/v1/sessions", json!({})).await.expect(201);
    let path = format!("/v1/sessions/{}/execs", session["session_id"].as_str().unwrap());
    let exec =
        owner.post(&path, json!({ "command": "touch asked", "wait_ms": 0 })).await.expect(201);
    let helper = stack.session().await;
    let helper =
        tests::TestSession { id: session["session_id"].as_str().unwrap().into(), ..helper };
    let approval_id = helper.approval_of(&exec).await;
    let path = format!("/v1/approvals/{approval_id}/decision");
    let own = owner.post(&path, json!({ "decision": "approve" })).await;
    assert_eq!((own.status, own.code()), (403, "forbidden"));
    let agent = stack.agent("acme").post(&path, json!({ "decision": "approve" })).await;
    assert_eq!(agent.status, 403);
    helper.decide(&approval_id, "approve", None).await;
    assert_eq!(helper.wait(&exec).await["state"], "exited");
}

#[tokio::test]
async fn a_pending_exec_can_be_cancelled() {
    let session = Stack::shared().session().await;
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let approval_id = session.approval_of(&exec).await;
    let id = exec["exec_id"].as_str().unwrap();
    session.agent.post(&format!("/v1/execs/{id}/cancel"), json!({})).await.expect(200);
    assert_eq!(session.wait(&exec).await["state"], "cancelled");
    let approval = session.reviewer.get(&format!("/v1/approvals/{approval_id}")).await.expect(200);
    assert_eq!(approval["state"], "cancelled");
}

#[tokio::test]
async fn a_forged_signal_approves_nothing() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let approval_id = session.approval_of(&exec).await;
    let address = stack.dev().temporal_address.replace("http://", "");
    let temporal = tests::temporal_program();
    let status = std::process::Command::new(temporal)
        .args(["workflow", "signal", "--address", &address, "--name", "receive_approval"])
        .args(["--workflow-id", &format!("session/{}", session.id)])
        .args(["--input", &format!("\"{approval_id}\"")])
        .stdout(std::process::Stdio::null())
        .status()
        .expect("the temporal program is there");
    assert!(status.success());
    // The workflow has looked again once a later exec of the same session is through.
    assert_eq!(session.run("true").await["state"], "exited");
    let id = exec["exec_id"].as_str().unwrap();
    let now = session.agent.get(&format!("/v1/execs/{id}")).await.expect(200);
    assert_eq!(now["state"], "pending_approval");
}

#[tokio::test]
async fn pending_approvals_are_listed_and_leave_the_list() {
    let session = Stack::shared().session().await;
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let approval_id = session.approval_of(&exec).await;
    let listed = async || {
        let page = session.reviewer.get("/v1/approvals?state=pending&limit=200").await.expect(200);
        let items = page["items"].as_array().cloned().unwrap_or_default();
        items.iter().any(|item| item["approval_id"] == approval_id.as_str())
    };
    assert!(listed().await);
    session.decide(&approval_id, "approve", None).await;
    assert!(!listed().await);
}

#[tokio::test]
async fn a_token_made_by_whoever_asked_cannot_approve() {
    let stack = Stack::shared();
    let owner = stack.owner("acme");
    let made = owner.post("/v1/tokens", json!({ "name": "puppet", "role": "reviewer" })).await;
    let puppet = stack.caller(made.expect(201)["token"].as_str());
    let id = owner.post("/v1/sessions", json!({})).await.expect(201)["session_id"].clone();
    let id = id.as_str().expect("an id").to_owned();
    let body = json!({ "command": "touch asked" });
    let exec = owner.post(&format!("/v1/sessions/{id}/execs"), body).await.expect(201);
    let session = tests::TestSession { id, agent: owner.clone(), reviewer: stack.reviewer("acme") };
    let path = format!("/v1/approvals/{}/decision", session.approval_of(&exec).await);
    let answer = puppet.post(&path, json!({ "decision": "approve" })).await;
    assert_eq!((answer.status, answer.code()), (403, "forbidden"));
}

#[tokio::test]
async fn what_a_command_would_read_is_shown() {
    let session = Stack::shared().session().await;
    let body = json!({ "command": "bash", "stdin": "echo from-stdin", "env": { "A": "b" } });
    let exec = session.submit(body).await;
    let approval_id = session.approval_of(&exec).await;
    let shown = session.reviewer.get(&format!("/v1/approvals/{approval_id}")).await.expect(200);
    assert_eq!(shown["stdin"]["text"], "echo from-stdin");
    assert_eq!(shown["env_names"], json!(["A"]));
    session.decide(&approval_id, "approve", None).await;
    assert_eq!(session.wait(&exec).await["stdout"]["head"], "from-stdin\n");
}
