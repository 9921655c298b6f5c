//! Execs that are talked to while they run, over HTTP and by the CLI: input, terminals, signals,
//! the background; and what is refused, with its code.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tests::{Stack, TestSession};

/// Starts an exec, approves it, and waits until it runs.
async fn start(session: &TestSession, body: Value) -> Value {
    let exec = session.submit(body).await;
    let decided = |exec: &Value| exec["approval_id"].is_string() || !exec["decision"].is_null();
    let decided = session.wait_until(&exec, decided).await;
    if let Some(approval) = decided["approval_id"].as_str() {
        session.decide(approval, "approve", None).await;
    }
    session.wait_until(&exec, |exec| exec["state"] == "running").await
}

fn path(exec: &Value, action: &str) -> String {
    format!("/v1/execs/{}/{action}", exec["exec_id"].as_str().expect("an id"))
}

async fn run(mut command: Command) -> Output {
    let run = tokio::task::spawn_blocking(move || command.output().expect("the program starts"));
    run.await.expect("ends")
}

#[tokio::test]
async fn input_arrives_once_and_in_order_and_closing_ends_it() {
    let session = Stack::shared().session().await;
    let exec = start(&session, json!({ "command": "cat; echo end", "stdin_open": true })).await;
    let say = async |body: Value| session.agent.post(&path(&exec, "stdin"), body).await.expect(200);
    assert_eq!(say(json!({ "data": "one " })).await, json!({ "offset": 4, "open": true }));
    let again = say(json!({ "data": "one two ", "offset": 0 })).await;
    assert_eq!(again, json!({ "offset": 8, "open": true }));
    let beyond = json!({ "data": "late", "offset": 50, "close": true });
    let beyond = session.agent.post(&path(&exec, "stdin"), beyond).await;
    assert_eq!((beyond.status, beyond.code()), (409, "offset_past_end"));
    let last = say(json!({ "data_base64": "AP8=", "close": true })).await;
    assert_eq!(last, json!({ "offset": 10, "open": false }));
    let done = session.wait(&exec).await;
    assert_eq!((&done["state"], &done["exit_code"]), (&json!("exited"), &json!(0)));
    assert_eq!(session.output(&exec, "stdout").await, b"one two \x00\xffend\n");
    let late = session.agent.post(&path(&exec, "stdin"), json!({ "data": "late" })).await;
    assert_eq!((late.status, late.code()), (409, "exec_finished"));
}

#[tokio::test]
async fn a_terminal_has_a_size_that_changes() {
    let session = Stack::shared().session().await;
    let command = "stty size; trap 'stty size; exit 3' WINCH; while :; do sleep 0.05; done";
    let tty = json!({ "rows": 11, "cols": 22 });
    let exec = start(&session, json!({ "command": command, "tty": tty })).await;
    // The trap is set once the first size was printed.
    let mut printed = Vec::new();
    while !printed.ends_with(b"\n") {
        let url = format!("{}?stream=stdout", path(&exec, "output"));
        printed = session.agent.get(&url).await.text.into_bytes();
    }
    let size = json!({ "rows": 33, "cols": 44 });
    let resize = session.agent.post(&path(&exec, "resize"), size).await;
    assert!((200..300).contains(&resize.status), "{}", resize.text);
    let done = session.wait(&exec).await;
    assert_eq!(done["exit_code"], 3, "{done}");
    assert_eq!(session.output(&exec, "stdout").await, b"11 22\r\n33 44\r\n");
}

#[tokio::test]
async fn signals_reach_the_command_and_nonsense_is_refused() {
    let session = Stack::shared().session().await;
    let command = "trap 'echo usr1; exit 5' USR1; echo ready; while :; do sleep 0.05; done";
    let exec = start(&session, json!({ "command": command })).await;
    let signal = async |body: Value| session.agent.post(&path(&exec, "signal"), body).await;
    for nonsense in [json!("SIGNOPE"), json!(0), json!(65), json!(-1), json!(""), json!("9 9")] {
        let answer = signal(json!({ "signal": nonsense })).await;
        assert_eq!(answer.status, 422, "{nonsense}: {}", answer.text);
        assert!(["invalid_signal", "invalid_body"].contains(&answer.code()), "{}", answer.text);
    }
    let url = format!("{}?stream=stdout", path(&exec, "output"));
    while session.agent.get(&url).await.text != "ready\n" {}
    assert!((200..300).contains(&signal(json!({ "signal": "SIGUSR1" })).await.status));
    assert_eq!(session.wait(&exec).await["exit_code"], 5);
    let late = signal(json!({ "signal": "TERM" })).await;
    assert_eq!((late.status, late.code()), (409, "exec_finished"));
    let past = format!("{}?stream=stdout&offset=99", path(&exec, "output"));
    let past = session.agent.get(&past).await;
    assert_eq!((past.status, past.code()), (416, "offset_past_end"));
    let nothing = session.agent.get(&format!("{url}&limit=0")).await;
    assert_eq!((nothing.status, nothing.code()), (422, "invalid_limit"));
}

#[tokio::test]
async fn a_command_without_input_or_terminal_says_so() {
    let session = Stack::shared().session().await;
    let exec = start(&session, json!({ "command": "sleep 60" })).await;
    let answer = session.agent.post(&path(&exec, "stdin"), json!({ "data": "x" })).await;
    assert_eq!((answer.status, answer.code()), (409, "exec_not_interactive"));
    let size = json!({ "rows": 1, "cols": 1 });
    let answer = session.agent.post(&path(&exec, "resize"), size).await;
    assert_eq!((answer.status, answer.code()), (409, "exec_not_interactive"));
    let missing = json!({ "command": "pwd", "cwd": "/work/nowhere", "wait_ms": 30_000 });
    let url = format!("/v1/sessions/{}/execs", session.id);
    let answer = session.agent.post(&url, missing).await;
    assert_eq!((answer.status, answer.code()), (422, "cwd_missing"), "{}", answer.text);
    session.agent.post(&path(&exec, "cancel"), json!({})).await;
    assert_eq!(session.wait(&exec).await["state"], "cancelled");
}

#[tokio::test]
async fn the_cli_finds_feeds_follows_and_ends_what_runs_in_the_background() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let body = json!({ "command": "cat; sleep 99", "background": true, "stdin_open": true });
    let exec = start(&session, body).await;
    let id = exec["exec_id"].as_str().expect("an id").to_owned();
    let mut list = stack.cli(&["execs", "list", "--background", "--json", "--session"]);
    list.arg(&session.id);
    let listed = run(list).await;
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&id), "{listed:?}");
    let mut feed = stack.cli(&["execs", "stdin", &id]);
    feed.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut feeding = feed.spawn().expect("starts");
    feeding.stdin.take().expect("a pipe").write_all(b"fed\n").expect("writes");
    let fed = tokio::task::spawn_blocking(move || feeding.wait_with_output().expect("ends")).await;
    assert!(fed.as_ref().expect("ends").status.success(), "{fed:?}");
    let url = format!("{}?stream=stdout", path(&exec, "output"));
    while session.agent.get(&url).await.text != "fed\n" {}
    let logs = run(stack.cli(&["execs", "logs", &id])).await;
    assert_eq!(logs.stdout, b"fed\n", "{logs:?}");
    let shown = run(stack.cli(&["execs", "show", &id, "--json"])).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!((&shown["state"], &shown["background"]), (&json!("running"), &json!(true)));
    let signalled = run(stack.cli(&["execs", "signal", &id, "CONT"])).await;
    assert!(signalled.status.success(), "{signalled:?}");
    assert!(run(stack.cli(&["execs", "cancel", &id])).await.status.success());
    let waited = run(stack.cli(&["execs", "wait", &id])).await;
    assert_ne!(waited.status.code(), Some(0), "{waited:?}");
    assert_eq!(session.wait(&exec).await["state"], "cancelled");
}
