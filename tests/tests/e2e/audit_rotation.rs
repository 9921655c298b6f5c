//! The key of checkpoints is changed, and an export that both keys signed verifies with either of
//! them while both sign, and with both afterwards.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Stack, bin_dir};

fn rotate(stack: &Stack) -> bool {
    let output = Command::new(bin_dir().join("bulkhead-control-plane"))
        .arg("rotate-audit-key")
        .env("BULKHEAD_KEY_DIR", stack.data_dir().join("keys"))
        .env("DATABASE_URL", &stack.dev().database_url)
        .output();
    output.expect("the program starts").status.success()
}

/// Starts `serve` anew, by the stack's own supervisor.
async fn restart(stack: &Stack) {
    let before = stack.dev().pids["control-plane"];
    stack.kill("control-plane");
    let deadline = Instant::now() + Duration::from_secs(60);
    while stack.dev().pids.get("control-plane").is_none_or(|pid| *pid == before)
        || stack.anonymous().get("/readyz").await.status != 200
    {
        assert!(Instant::now() < deadline, "it did not start again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Exports the chain of acme and verifies it with one key or a file of them.
async fn holds(stack: &Stack, key: &str) -> (bool, String) {
    let answer = stack.owner("acme").get("/v1/audit/export").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let file = stack.data_dir().join("rotation.jsonl").to_string_lossy().into_owned();
    std::fs::write(&file, &answer.text).expect("a file");
    let arguments = ["audit", "verify", "--from", &file, "--key", key];
    let output = stack.cli(&arguments).output().expect("the program starts");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn an_export_that_spans_two_keys_verifies_with_the_list_of_both() {
    let stack = Stack::start("rotation");
    let list = stack.data_dir().join("keys/audit.pub").to_string_lossy().into_owned();
    let old = std::fs::read_to_string(&list).expect("a key").trim().to_owned();
    assert!(holds(&stack, &old).await.0);
    assert!(rotate(&stack));
    assert!(!rotate(&stack), "one rotation at a time");
    let keys = std::fs::read_to_string(&list).expect("keys");
    let new = keys.lines().find(|key| **key != *old).expect("another key").to_owned();
    restart(&stack).await;
    // Both sign: each auditor verifies with what he has.
    for key in [&old, &list] {
        let (holds, said) = holds(&stack, key).await;
        assert!(holds, "{key}: {said}");
    }
    // Only the new one signs from now on.
    let previous = stack.data_dir().join("keys/audit.previous.key");
    std::fs::remove_file(previous).expect("the old key's file");
    restart(&stack).await;
    let made = stack.owner("acme").post("/v1/audit/checkpoints", json!({})).await.expect(201);
    let note = made["checkpoint"]["note"].as_str().expect("a note");
    assert_eq!(note.matches('\u{2014}').count(), 1, "{note}");
    let (with_both, said) = holds(&stack, &list).await;
    assert!(with_both, "{said}");
    let (with_old, said) = holds(&stack, &old).await;
    assert!(!with_old && said.contains("none of the given keys"), "{said}");
    // What both have signed before, the new one vouches for, too.
    let (with_new, said) = holds(&stack, &new).await;
    assert!(with_new, "{said}");
    // Who did that is on record.
    let path = "/v1/audit/events?action=key.rotate";
    let events = stack.platform().get(path).await.expect(200);
    let outcomes: Vec<&Value> =
        events["items"].as_array().expect("a list").iter().map(|it| &it["outcome"]).collect();
    assert_eq!(outcomes, ["requested", "ok", "requested", "failed"]);
}
