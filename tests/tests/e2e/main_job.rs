//! The points of `cargo xtask demo`, asserted one by one. (Its crash point is in `chaos`.)

use futures::future::join_all;
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
    // Nor is work on files, of which there is nothing to put on record then.
    let path = format!("/v1/sessions/{}/files/late", session.id);
    let refused = session.agent.call(reqwest::Method::PUT, &path, Some(json!("x"))).await;
    assert_eq!((refused.status, refused.code()), (409, "session_closed"));
    let events = session.reviewer.audit_of(&session.id).await;
    assert!(events.iter().all(|event| event["action"] != "file.put"), "{events:?}");
    assert_eq!(session.output(&exec, "stdout").await, b"before\n");
}

#[tokio::test]
async fn many_commands_at_once_all_end_and_are_all_on_record() {
    let session = Stack::shared().session().await;
    let commands = (0..24).map(|n| {
        let session = &session;
        async move { session.run(&format!("echo {n}")).await["stdout"]["head"].clone() }
    });
    let mut said: Vec<String> = Vec::new();
    for head in join_all(commands).await {
        said.push(head.as_str().expect("text").trim().to_owned());
    }
    assert_eq!(said, (0..24).map(|n| n.to_string()).collect::<Vec<_>>());
    let events = session.reviewer.audit_of(&session.id).await;
    let ends = events.iter().filter(|event| event["action"] == "exec.finish").count();
    assert_eq!(ends, 24);
}

#[tokio::test]
async fn a_session_closed_in_the_middle_leaves_nothing_open() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/execs", session.id);
    for _ in 0..8 {
        session.agent.post(&path, json!({ "command": "touch asked" })).await.expect(201);
        session.agent.post(&path, json!({ "command": "true" })).await.expect(201);
    }
    assert_eq!(session.agent.delete(&format!("/v1/sessions/{}", session.id)).await.status, 202);
    let mut events = session.agent.0.events(&session.id, 0);
    while events.next().await.expect("events").kind != "session.closed" {}
    let execs = session.agent.get(&format!("{path}?limit=200")).await.expect(200);
    for exec in execs["items"].as_array().expect("a list") {
        assert!(exec["finished_at"].is_string(), "{exec}");
    }
}

#[tokio::test]
async fn a_session_takes_only_so_much_unfinished_work() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/execs", session.id);
    let mut accepted = 0;
    let refused = loop {
        let answer = session.agent.post(&path, json!({ "command": "touch asked" })).await;
        if answer.status != 201 {
            break answer;
        }
        accepted += 1;
        assert!(accepted <= 256);
    };
    assert_eq!((refused.status, refused.code()), (429, "too_much_open_work"));
    assert_eq!(accepted, 256);
    // What waits for humans takes no slot from others.
    assert_eq!(session.agent.delete(&format!("/v1/sessions/{}", session.id)).await.status, 202);
}
