//! Every process of the stack is killed while a command runs: one start, one result, no missing
//! byte. The scenarios share a stack and take turns, because each of them breaks it.

use std::process::Command;

use serde_json::{Value, json};
use tests::{Stack, TestSession};
use tokio::sync::Mutex;

static TURN: Mutex<()> = Mutex::const_new(());

fn stack() -> &'static Stack {
    static STACK: std::sync::OnceLock<Stack> = std::sync::OnceLock::new();
    STACK.get_or_init(|| Stack::start("chaos"))
}

/// Says when it was started, prints a line every 200 ms for six seconds, then counts its starts.
const COMMAND: &str = "echo started >> runs; for i in $(seq 30); do echo tick $i; sleep 0.2; done; \
                       wc -l < runs";

fn expected_output() -> Vec<u8> {
    (1..=30).flat_map(|n| format!("tick {n}\n").into_bytes()).chain(*b"1\n").collect()
}

/// Starts [`COMMAND`] and waits until it runs.
async fn start(session: &TestSession) -> Value {
    let exec = session.submit(json!({ "command": COMMAND })).await;
    let approval_id = session.approval_of(&exec).await;
    session.decide(&approval_id, "approve", None).await;
    session.wait_until(&exec, |exec| exec["state"] == "running").await
}

async fn assert_one_true_result(session: &TestSession, exec: &Value) {
    let exec = session.wait(exec).await;
    assert_eq!((&exec["state"], &exec["exit_code"]), (&json!("exited"), &json!(0)), "{exec}");
    assert_eq!(session.output(&exec, "stdout").await, expected_output());
    let audit = session.reviewer.audit_of(&session.id).await;
    let of_exec = |action: &str| {
        let id = &exec["exec_id"];
        audit.iter().filter(|event| event["object"] == *id && event["action"] == action).count()
    };
    assert_eq!(of_exec("exec.finish"), 1);
    assert_eq!(of_exec("exec.create"), 1);
}

async fn survives(victim: &str) {
    let _turn = TURN.lock().await;
    let session = stack().session().await;
    let exec = start(&session).await;
    let waiting = session.submit(json!({ "command": "touch asked" })).await;
    let approval_id = session.approval_of(&waiting).await;
    stack().kill(victim);
    assert_one_true_result(&session, &exec).await;
    // A question that was open over the crash can still be answered.
    decide(&session, &approval_id, "approve").await;
    assert_eq!(session.wait(&waiting).await["state"], "exited");
}

/// Decides as soon as there is somebody to tell it to.
async fn decide(session: &TestSession, approval_id: &str, decision: &str) {
    let path = format!("/v1/approvals/{approval_id}/decision");
    let decided = async {
        while session.reviewer.post(&path, json!({ "decision": decision })).await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), decided).await.expect("decided");
}

#[tokio::test]
async fn questions_outlive_everything_at_once() {
    let _turn = TURN.lock().await;
    let session = stack().session().await;
    let (mut execs, mut approvals) = (Vec::new(), Vec::new());
    for name in ["yes", "no"] {
        let exec = session.submit(json!({ "command": format!("touch {name}") })).await;
        approvals.push(session.approval_of(&exec).await);
        execs.push(exec);
    }
    for victim in ["temporal", "postgres", "control-plane", "worker", "executor-acme"] {
        stack().kill(victim);
    }
    decide(&session, &approvals[0], "approve").await;
    decide(&session, &approvals[1], "deny").await;
    let yes = session.wait(&execs[0]).await;
    assert_eq!((&yes["state"], &yes["exit_code"]), (&json!("exited"), &json!(0)), "{yes}");
    assert_eq!(session.wait(&execs[1]).await["state"], "denied");
    // Each was decided once, and what was approved ran once.
    let audit = session.reviewer.audit_of(&session.id).await;
    let count = |action: &str| audit.iter().filter(|event| event["action"] == action).count();
    assert_eq!((count("approval.decide"), count("exec.finish")), (2, 2));
    let look = session.run("ls").await;
    assert_eq!(look["stdout"]["head"], "yes\n", "{look}");
}

#[tokio::test]
async fn a_killed_executor_finds_its_running_command_again() {
    survives("executor-acme").await;
}

#[tokio::test]
async fn a_killed_worker_is_replaced_without_anybody_noticing() {
    survives("worker").await;
}

#[tokio::test]
async fn a_killed_control_plane_comes_back_to_the_same_sessions() {
    survives("control-plane").await;
}

#[tokio::test]
async fn a_killed_temporal_server_goes_on_from_its_file() {
    survives("temporal").await;
}

#[tokio::test]
async fn a_killed_database_loses_nothing_that_was_acknowledged() {
    survives("postgres").await;
}

#[tokio::test]
async fn a_removed_container_is_lost_and_said_so() {
    let _turn = TURN.lock().await;
    let session = stack().session().await;
    let before = session.run("true").await;
    let exec = start(&session).await;
    let sandbox = before["sandbox"]["id"].as_str().expect("a sandbox");
    let label = format!("label=bulkhead.sandbox={sandbox}");
    let listed = Command::new("docker").args(["ps", "-q", "--filter", &label]).output();
    let id = String::from_utf8(listed.expect("docker answers").stdout).expect("an id");
    let removed = Command::new("docker").args(["rm", "-f", id.trim()]).output();
    assert!(removed.expect("docker answers").status.success());
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "lost", "{exec}");
    assert!(exec["exit_code"].is_null());
    // The container is replaced; what it worked on is not lost, and nothing ran a second time.
    let next = session.run_approved(json!({ "command": "cat runs" })).await;
    assert_eq!((&next["state"], &next["stdout"]["head"]), (&json!("exited"), &json!("started\n")));
    assert_eq!(next["sandbox"]["generation"], 1);
    assert_ne!(next["sandbox"]["id"], before["sandbox"]["id"]);
}

#[tokio::test]
async fn a_cancel_while_the_executor_is_away_ends_the_command_and_tells_the_truth() {
    let _turn = TURN.lock().await;
    let session = stack().session().await;
    let exec = start(&session).await;
    stack().kill("executor-acme");
    let path = format!("/v1/execs/{}/cancel", exec["exec_id"].as_str().expect("an id"));
    session.agent.post(&path, json!({})).await.expect(200);
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "cancelled", "{exec}");
    let output = session.output(&exec, "stdout").await;
    assert!(expected_output().starts_with(&output) && !output.is_empty());
    let ticking = "ps -eo args | grep -c '[s]leep 0.2'";
    let left = session.run_approved(json!({ "command": ticking })).await;
    assert_eq!(left["stdout"]["head"], "0\n");
}
