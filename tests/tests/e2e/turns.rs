//! Agent turns: order, approvals in between, interruption.

use serde_json::json;
use tests::Stack;

#[tokio::test]
async fn a_denied_command_is_told_to_the_model_with_its_reason() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/turns", session.id);
    let body = json!({ "input": "Please run 'rm -rf data'." });
    let turn = session.agent.post(&path, body).await.expect(201);
    let mut events = session.agent.0.events(&session.id, 0);
    let approval_id = loop {
        let event = events.next().await.expect("events");
        if event.kind == "exec.pending_approval" {
            break event.text("approval_id").to_owned();
        }
    };
    session.decide(&approval_id, "deny", Some("data is precious")).await;
    let turn = session.wait_turn(&turn).await;
    assert_eq!(turn["state"], "completed");
    assert!(
        turn["answer"].as_str().is_some_and(|text| text.contains("data is precious")),
        "{turn}"
    );
}

#[tokio::test]
async fn turns_of_a_session_keep_their_order() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/turns", session.id);
    let mut turns = Vec::new();
    for n in 0..3 {
        let body = json!({ "input": format!("run 'echo turn {n}'") });
        turns.push(session.agent.post(&path, body).await.expect(201));
    }
    for (n, turn) in turns.iter().enumerate() {
        let turn = session.wait_turn(turn).await;
        assert!(turn["answer"].as_str().is_some_and(|text| text.contains(&format!("turn {n}"))));
    }
    let mut events = session.agent.0.events(&session.id, 0);
    let mut finished = Vec::new();
    while finished.len() < 3 {
        let event = events.next().await.expect("events");
        if event.kind == "turn.finished" {
            finished.push(event.text("turn_id").to_owned());
        }
    }
    let posted: Vec<&str> = turns.iter().filter_map(|turn| turn["turn_id"].as_str()).collect();
    assert_eq!(finished, posted);
}

#[tokio::test]
async fn several_commands_of_one_answer_run_side_by_side() {
    let session = Stack::shared().session().await;
    let turn = session.turn("run 'echo left' and run 'echo right'").await;
    let answer = turn["answer"].as_str().expect("an answer");
    assert!(answer.contains("left\n") && answer.contains("right\n"), "{answer}");
}

#[tokio::test]
async fn an_interrupt_ends_the_turn_and_the_session_goes_on() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/turns", session.id);
    let body = json!({ "input": "Please run 'sleep 999'." });
    let turn = session.agent.post(&path, body).await.expect(201);
    let mut events = session.agent.0.events(&session.id, 0);
    loop {
        let event = events.next().await.expect("events");
        if event.kind == "exec.pending_approval" {
            session.decide(event.text("approval_id"), "approve", None).await;
        }
        if event.kind == "exec.running" {
            break;
        }
    }
    let path = format!("/v1/sessions/{}/interrupt", session.id);
    assert_eq!(session.agent.post(&path, json!({})).await.status, 202);
    let turn = session.wait_turn(&turn).await;
    assert_eq!(turn["state"], "interrupted", "{turn}");
    let next = session.turn("run 'echo still here'").await;
    assert!(next["answer"].as_str().is_some_and(|text| text.contains("still here")), "{next}");
}

#[tokio::test]
async fn output_with_nul_bytes_reaches_the_model_and_harms_nothing() {
    let session = Stack::shared().session().await;
    let exec = session.run_approved(json!({ "command": "printf 'a\\0b' > nul" })).await;
    assert_eq!(exec["exit_code"], 0);
    let turn = session.turn("run 'cat nul'").await;
    assert_eq!(turn["state"], "completed", "{turn}");
    let again = session.turn("run 'echo fine'").await;
    assert!(again["answer"].as_str().is_some_and(|text| text.contains("fine")), "{again}");
}

#[tokio::test]
async fn an_interrupt_settles_what_waits_for_a_human() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/turns", session.id);
    let body = json!({ "input": "run 'touch one' and run 'touch two'" });
    let turn = session.agent.post(&path, body).await.expect(201);
    let mut events = session.agent.0.events(&session.id, 0);
    let mut asked = 0;
    while asked < 2 {
        let event = events.next().await.expect("events");
        asked += usize::from(event.kind == "exec.pending_approval");
    }
    let interrupt = format!("/v1/sessions/{}/interrupt", session.id);
    assert_eq!(session.agent.post(&interrupt, json!({})).await.status, 202);
    assert_eq!(session.wait_turn(&turn).await["state"], "interrupted");
    let path = format!("/v1/sessions/{}/execs", session.id);
    let execs = session.agent.get(&path).await.expect(200);
    for exec in execs["items"].as_array().expect("a list") {
        assert_eq!(exec["state"], "cancelled", "{exec}");
    }
    let idle = session.agent.post(&interrupt, json!({})).await;
    assert_eq!((idle.status, idle.code()), (409, "no_turn_runs"));
    let next = session.turn("run 'echo onwards'").await;
    assert!(next["answer"].as_str().is_some_and(|text| text.contains("onwards")), "{next}");
}
