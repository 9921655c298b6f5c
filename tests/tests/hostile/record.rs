//! Commands and the record of them: what cannot be written down does not run, and what is written down
//! is all of it and harms nobody who reads it.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Stack, TestSession};

use crate::canary::Canary;

pub const IDS: &[&str] = &["HC-114", "HC-115"];

/// A database that refuses a session's audit events of one action, while this lives.
struct Refusing<'a> {
    stack: &'a Stack,
    name: String,
}

impl<'a> Refusing<'a> {
    fn new(stack: &'a Stack, session: &TestSession, action: &str) -> Self {
        let name = format!("refuse_{}", session.id);
        let sql = format!(
            "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'no audit row'; END $$;
             CREATE TRIGGER {name} BEFORE INSERT ON audit_events FOR EACH ROW
             WHEN (NEW.session_id = '{}' AND NEW.action = '{action}') EXECUTE FUNCTION {name}()",
            session.id
        );
        stack.psql_as("superuser", &sql).expect("a trigger");
        Self { stack, name }
    }
}

impl Drop for Refusing<'_> {
    fn drop(&mut self) {
        let sql = format!("DROP FUNCTION {} CASCADE", self.name);
        self.stack.psql_as("superuser", &sql).expect("dropped");
    }
}

async fn is_there(session: &TestSession, file: &str) -> bool {
    let path = format!("/v1/sessions/{}/files/{file}?kind=stat", session.id);
    let answer = session.agent.call(Method::GET, &path, None).await;
    match (answer.status, answer.code()) {
        (200, _) => true,
        (404, "file_not_found") => false,
        other => panic!("{other:?}: {}", answer.text),
    }
}

#[tokio::test]
async fn hc_114_without_an_audit_row_nothing_runs() {
    let canary = Canary::start().await;
    let stack = Stack::shared();
    let session = stack.session().await;
    session.run("true").await;
    let execs = format!("/v1/sessions/{}/execs", session.id);

    // That it was asked for cannot be written down: it is refused, and there is no exec.
    let refusing = Refusing::new(stack, &session, "exec.create");
    let answer = session.agent.post(&execs, json!({ "command": "touch one" })).await;
    assert!(answer.status >= 500, "{}", answer.text);
    drop(refusing);
    let listed = session.agent.get(&execs).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");

    // That it may run cannot be written down: it waits, and nothing is started.
    let exec = session.submit(json!({ "command": "touch two" })).await;
    let approval = session.approval_of(&exec).await;
    let refusing = Refusing::new(stack, &session, "exec.authorize");
    session.decide(&approval, "approve", None).await;
    let path = format!("/v1/execs/{}", exec["exec_id"].as_str().expect("an id"));
    for _ in 0..10 {
        let now = session.agent.get(&format!("{path}?wait_ms=300")).await.expect(200);
        assert!(now["started_at"].is_null() && now["sandbox"].is_null(), "{now}");
    }
    assert!(!is_there(&session, "two").await, "it ran without a row");
    drop(refusing);
    let exec = session.wait(&exec).await;
    assert_eq!((&exec["state"], &exec["exit_code"]), (&json!("exited"), &json!(0)), "{exec}");
    assert!(is_there(&session, "two").await && !is_there(&session, "one").await);
    canary.assert_unharmed("HC-114").await;
}

#[tokio::test]
async fn hc_115_the_record_of_a_command_is_whole_and_harmless() {
    let canary = Canary::start().await;
    let stack = Stack::shared();
    let session = stack.session().await;
    let execs = format!("/v1/sessions/{}/execs", session.id);
    // What is too long is refused, and not on record in part.
    let long = format!("echo {}", "x".repeat(1 << 20));
    let answer = session.agent.post(&execs, json!({ "command": long })).await;
    assert!(matches!(answer.status, 413 | 422), "{}", answer.text);
    // The longest that is taken, with a secret and what would move a terminal's cursor.
    let hidden = "\u{1b}[2K\u{1b}]0;owned\u{7}\u{202e}";
    let start = format!("echo {hidden} AKIAIOSFODNN7EXAMPLE ");
    let command = format!("{start}{}", "y".repeat(64 * 1024 - start.len()));
    let exec = session.run_approved(json!({ "command": command })).await;
    assert_eq!(exec["command"], command.as_str());

    let events = session.reviewer.audit_of(&session.id).await;
    let created: Vec<&Value> =
        events.iter().filter(|event| event["action"] == "exec.create").collect();
    assert_eq!(created.len(), 1, "{events:?}");
    assert_eq!(created[0]["detail"]["command"], command.as_str(), "byte for byte");
    // Whoever reads it in a terminal sees what it is, and nothing happens.
    let mut list = stack.cli(&["audit", "list", "--session", &session.id]);
    let output = list.output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("exec.create"), "{shown}");
    let moves = |it: char| (it.is_control() && it != '\n') || it == '\u{202e}';
    assert!(!shown.contains(moves), "{shown:?}");
    // The row verifies with everything else, away from the server.
    let file = stack.data_dir().join("hostile.jsonl").to_string_lossy().into_owned();
    let mut export = stack.cli(&["audit", "export", "--out", &file]);
    assert!(export.output().expect("it starts").status.success());
    let mut verify = stack.cli(&["audit", "verify", "--from", &file, "--key"]);
    let verified = verify.arg(stack.data_dir().join("audit.pub")).output().expect("it starts");
    assert!(verified.status.success(), "{verified:?}");
    let exported = std::fs::read_to_string(&file).expect("the export");
    let ours = |line: &str| line.contains(&session.id) && line.contains("AKIAIOSFODNN7EXAMPLE");
    assert!(exported.lines().any(ours), "what was verified is the row");
    canary.assert_unharmed("HC-115").await;
}
