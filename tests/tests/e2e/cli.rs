//! The `bulkhead` program: exit codes, streams, JSON.

use std::process::Output;

use serde_json::Value;
use tests::Stack;

fn run(arguments: &[&str]) -> Output {
    Stack::shared().cli(arguments).output().expect("the program starts")
}

fn json_lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Runs a command, and if it asks, answers its approval with `verdict`.
async fn exec_and_decide(arguments: &[&str], verdict: &str) -> Output {
    let stack = Stack::shared();
    let session = stack.session().await;
    let mut all = vec!["exec", "--session", &session.id];
    all.extend_from_slice(arguments);
    let mut command = stack.cli(&all);
    let running = tokio::task::spawn_blocking(move || command.output().expect("starts"));
    let mut events = session.agent.0.events(&session.id, 0);
    loop {
        let event = events.next().await.expect("events");
        if event.kind == "exec.pending_approval" {
            let decided = run(&["approvals", verdict, event.text("approval_id")]);
            assert!(decided.status.success(), "{decided:?}");
            break;
        }
        // What only prints asks nobody.
        if event.kind == "exec.finished" {
            break;
        }
    }
    running.await.expect("ends")
}

#[tokio::test]
async fn exec_prints_what_the_command_printed_and_exits_as_it_did() {
    let script = "touch asked; echo out; echo err >&2; exit 7";
    let output = exec_and_decide(&["--", script], "approve").await;
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"out\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("err\n"));
}

#[tokio::test]
async fn exit_codes_tell_denial_timeout_and_our_own_errors_apart() {
    assert_eq!(exec_and_decide(&["--", "touch asked"], "deny").await.status.code(), Some(126));
    let late =
        exec_and_decide(&["--timeout", "300ms", "--", "touch asked; sleep 60"], "approve").await;
    assert_eq!(late.status.code(), Some(124), "{late:?}");
    let killed = exec_and_decide(&["--", "kill -9 $$"], "approve").await;
    assert_eq!(killed.status.code(), Some(137), "{killed:?}");
    let unknown = "ses_00000000000000000000000000000000";
    assert_eq!(run(&["exec", "--session", unknown, "--", "true"]).status.code(), Some(125));
}

#[tokio::test]
async fn exec_without_a_session_makes_one_and_closes_it() {
    let output = tokio::task::spawn_blocking(|| run(&["exec", "--json", "--", "echo", "hi"]))
        .await
        .expect("ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let exec = &json_lines(&output)[0];
    assert_eq!(exec["stdout"]["head"], "hi\n");
    let path = format!("/v1/sessions/{}", exec["session_id"].as_str().unwrap());
    let session = Stack::shared().agent("acme").get(&path).await.expect(200);
    assert_ne!(session["state"], "open");
}

#[tokio::test]
async fn run_prints_the_answer_alone() {
    let output = tokio::task::spawn_blocking(|| run(&["run", "Please run 'echo hi there'."]))
        .await
        .expect("ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("hi there"));
}

#[tokio::test]
async fn lists_are_one_json_document_a_line() {
    let session = Stack::shared().session().await;
    session.run("true").await;
    let sessions = json_lines(&run(&["sessions", "list", "--json"]));
    assert!(sessions.iter().any(|listed| listed["session_id"] == session.id.as_str()));
    let audit = json_lines(&run(&["audit", "list", "--json"]));
    assert!(audit.iter().any(|event| event["action"] == "exec.finish"));
}

#[tokio::test]
async fn a_second_dev_on_the_same_folder_says_so() {
    let stack = Stack::shared();
    let folder = stack.data_dir().to_str().expect("a path").to_owned();
    let output = run(&["dev", "--data-dir", &folder]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&folder), "{said}");
    assert_eq!(stack.session().await.run("true").await["exit_code"], 0);
}
