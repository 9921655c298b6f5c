//! Output that is lost on its executor's host: the control plane hears of it, clients are told from
//! where on it is missing, and nobody waits for it.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::Stack;

/// Prints for a while, far more than is shipped meanwhile.
const MUCH: &str = "head -c 60000000 /dev/zero; echo end >&2; sleep 2";

fn spool_file(stack: &Stack, exec: &Value, stream: &str) -> PathBuf {
    let id = exec["exec_id"].as_str().expect("an id");
    stack.data_dir().join(format!("executors/acme/spool/{id}.{stream}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_of_an_output_is_flagged_and_whoever_follows_hears_of_it() {
    let stack = Stack::shared();
    let session = stack.session().await;
    session.run("true").await;
    let exec = session.submit(json!({ "command": MUCH, "background": true })).await;
    let decided = |exec: &Value| exec["approval_id"].is_string() || !exec["decision"].is_null();
    if let Some(approval) = session.wait_until(&exec, decided).await["approval_id"].as_str() {
        session.decide(approval, "approve", None).await;
    }
    let id = exec["exec_id"].as_str().expect("an id").to_owned();
    let logs = stack.cli(&["execs", "logs", &id, "--follow"]);
    let mut logs = tokio::process::Command::from(logs);
    let following = logs.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let following = following.spawn().expect("starts");
    session.event("exec.output").await;
    std::fs::remove_file(spool_file(stack, &exec, "stdout")).expect("a spool file");

    // Whoever follows gets what there is, and then the truth, instead of waiting.
    let limit = Duration::from_secs(60);
    let followed = tokio::time::timeout(limit, following.wait_with_output()).await;
    let followed = followed.expect("it ends").expect("output");
    let said = String::from_utf8_lossy(&followed.stderr).into_owned();
    assert!(!followed.status.success(), "{said}");
    let from = followed.stdout.len() as u64;
    assert!(said.contains(&format!("the output from byte {from} on is lost")), "{said}");
    assert!((1..60_000_000).contains(&from), "{from} bytes: {said}");
    assert!(followed.stdout.iter().all(|byte| *byte == 0), "other bytes than it wrote");

    let ended = session.wait(&exec).await;
    assert_eq!(ended["state"], "exited", "the result is as true as ever: {ended}");
    let lost = json!({ "from": from, "reason": "unreadable" });
    assert_eq!((&ended["stdout"]["lost"], &ended["stderr"]["lost"]), (&lost, &Value::Null));
    assert_eq!(session.output(&exec, "stderr").await, b"end\n");
    let path = format!("/v1/execs/{id}/output?stream=stdout&offset={from}");
    let answer = session.agent.call(Method::GET, &path, None).await;
    let header = |name: &str| answer.headers[name].to_str().expect("text").to_owned();
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(header("x-output-complete"), "false");
    assert_eq!(header("x-output-lost"), "unreadable");
    assert_eq!(header("x-output-lost-from"), from.to_string());
    assert_eq!(header("x-output-total"), "60000000");

    let events = session.reviewer.audit_of(&session.id).await;
    let told: Vec<&Value> =
        events.iter().filter(|event| event["action"] == "exec.output_lost").collect();
    assert_eq!(told.len(), 1, "{events:?}");
    assert_eq!(told[0]["object"], id.as_str());
    let detail = json!({ "stream": "stdout", "from": from, "reason": "unreadable" });
    assert_eq!(told[0]["detail"], detail);
}

#[tokio::test]
async fn what_is_over_the_cap_is_counted_where_it_is_read() {
    const PRINTED: u64 = 68_000_000;
    const KEPT: u64 = 64 * 1024 * 1024;
    let stack = Stack::shared();
    let session = stack.session().await;
    let command = format!("head -c {PRINTED} /dev/zero; echo end >&2");
    let ended = session.run_approved(json!({ "command": command, "wait_ms": 60_000 })).await;
    let id = ended["exec_id"].as_str().expect("an id");
    let sizes = |exec: &Value| {
        let stdout = &exec["stdout"];
        (stdout["bytes_total"].as_u64(), stdout["bytes_stored"].as_u64())
    };
    assert_eq!(sizes(&ended), (Some(PRINTED), Some(KEPT)), "{ended}");
    // Said of a stream as soon as its end is known, whatever of it has arrived by then.
    let read = async |stream: &str, offset: u64| {
        let path = format!("/v1/execs/{id}/output?stream={stream}&offset={offset}");
        session.agent.call(Method::GET, &path, None).await
    };
    let header = |answer: &tests::Answer, name: &str| {
        answer.headers.get(name).map(|value| value.to_str().expect("text").to_owned())
    };
    let first = read("stdout", 0).await;
    assert_eq!(header(&first, "x-output-dropped"), Some((PRINTED - KEPT).to_string()));
    assert_eq!(header(&first, "x-output-total"), Some(KEPT.to_string()));
    let other = read("stderr", 0).await;
    assert_eq!((other.text.as_str(), header(&other, "x-output-dropped")), ("end\n", None));
    let past = read("stdout", KEPT + 1).await;
    assert_eq!((past.status, past.code()), (416, "offset_past_end"));
}
