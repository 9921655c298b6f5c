//! The points of `cargo xtask demo`, asserted one by one. (Its crash point is in `chaos`.)

use serde_json::json;
use tests::Stack;

#[tokio::test]
async fn a_turn_runs_a_command_and_tells_its_output() {
    let session = Stack::shared().session().await;
    let turn = session.turn("Use shell to run 'echo hello world' and tell me the output.").await;
    assert_eq!(turn["state"], "completed", "{turn}");
    let answer = turn["answer"].as_str().expect("an answer");
    assert!(answer.contains("hello world") && answer.contains("demo model"), "{answer}");
}

#[tokio::test]
async fn a_harmless_command_needs_nobody() {
    let session = Stack::shared().session().await;
    let exec = session.run("echo hello").await;
    assert_eq!(exec["state"], "exited");
    assert_eq!(exec["exit_code"], 0);
    assert_eq!(exec["stdout"]["head"], "hello\n");
    assert_eq!(exec["stdout"]["bytes_total"], 6);
    assert_eq!(exec["stdout"]["truncated"], false);
    assert_eq!(exec["decision"]["outcome"], "allow");
    assert_eq!(exec["decision"]["decided_by"], "policy");
    assert_eq!(exec["sandbox"]["generation"], 1);
}

#[tokio::test]
async fn what_asks_runs_only_after_a_reviewer_approved() {
    let session = Stack::shared().session().await;
    let exec = session.submit(json!({ "command": "echo a > f && cat f" })).await;
    let approval_id = session.approval_of(&exec).await;
    let shown = session.reviewer.get(&format!("/v1/approvals/{approval_id}")).await.expect(200);
    assert_eq!(shown["command"], "echo a > f && cat f");
    assert_eq!(shown["state"], "pending");
    session.decide(&approval_id, "approve", None).await;
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "exited");
    assert_eq!(exec["stdout"]["head"], "a\n");
    assert!(exec["decision"]["decided_by"].as_str().is_some_and(|who| who.contains("reviewer")));
}

#[tokio::test]
async fn what_is_denied_never_runs() {
    let session = Stack::shared().session().await;
    let exec = session.submit(json!({ "command": "touch /work/pwned; true" })).await;
    let approval_id = session.approval_of(&exec).await;
    session.decide(&approval_id, "deny", Some("not today")).await;
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "denied");
    assert!(exec["exit_code"].is_null());
    assert!(exec["error"]["message"].as_str().is_some_and(|why| why.contains("not today")));
    assert_eq!(session.run("ls").await["stdout"]["head"], "");
}

#[tokio::test]
async fn files_stay_in_the_workspace_between_commands() {
    let session = Stack::shared().session().await;
    let exec = session.run_approved(json!({ "command": "echo kept > note" })).await;
    assert_eq!(exec["exit_code"], 0);
    assert_eq!(session.run("cat note").await["stdout"]["head"], "kept\n");
    let other = Stack::shared().session().await;
    assert_eq!(other.run("cat note").await["exit_code"], 1);
}

#[tokio::test]
async fn a_closed_session_takes_no_more_work_and_keeps_its_record() {
    let session = Stack::shared().session().await;
    let exec = session.run("echo before").await;
    assert_eq!(session.agent.delete(&format!("/v1/sessions/{}", session.id)).await.status, 202);
    let mut events = session.agent.0.events(&session.id, 0);
    loop {
        let event = events.next().await.expect("the stream goes on");
        if event.kind == "session.closed" {
            break;
        }
    }
    let path = format!("/v1/sessions/{}/execs", session.id);
    let refused = session.agent.post(&path, json!({ "command": "true" })).await;
    assert_eq!((refused.status, refused.code()), (409, "session_closed"));
    assert_eq!(session.output(&exec, "stdout").await, b"before\n");
}
