//! The key that signs grants is changed while commands run: nobody is started again, nothing is lost.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Stack, TestSession, bin_dir};

fn step(stack: &Stack, step: &str) -> String {
    let output = Command::new(bin_dir().join("bulkhead-control-plane"))
        .args(["grant-key", step])
        .env("BULKHEAD_KEY_DIR", stack.data_dir().join("keys"))
        .env("DATABASE_URL", &stack.dev().database_url)
        .output()
        .expect("runs");
    assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split_whitespace().last().unwrap_or_default().to_owned()
}

/// Names of the keys that sign grants, once they are these.
async fn wait_for_keys(stack: &Stack, wanted: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let set = stack.anonymous().get("/.well-known/jwks.json").await.expect(200);
        let keys = set["keys"].as_array().expect("keys").clone();
        let grants = keys.iter().filter(|key| key["purpose"] == "grant");
        let mut kids: Vec<&str> = grants.filter_map(|key| key["kid"].as_str()).collect();
        let mut wanted = wanted.to_vec();
        kids.sort_unstable();
        wanted.sort_unstable();
        if kids == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{kids:?} and not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn runs(session: &TestSession, text: &str) {
    let exec = session.run(&format!("echo {text}")).await;
    assert_eq!(exec["stdout"]["head"], format!("{text}\n"), "{exec}");
}

/// A command that asks goes through the workflow and its worker, not ahead of it.
async fn runs_when_asked(session: &TestSession, name: &str) {
    let exec = session.run_approved(json!({ "command": format!("touch {name}") })).await;
    assert_eq!((&exec["state"], &exec["exit_code"]), (&json!("exited"), &json!(0)), "{exec}");
}

#[tokio::test]
async fn the_key_of_grants_is_changed_without_anybody_being_started_again() {
    let stack = Stack::start("grant-keys");
    let pids = stack.dev().pids;
    let session = stack.session().await;
    runs(&session, "first").await;
    let set = stack.anonymous().get("/.well-known/jwks.json").await.expect(200);
    let first = set["keys"].as_array().into_iter().flatten();
    let first: Vec<Value> = first.filter(|key| key["purpose"] == "grant").cloned().collect();
    let first = first[0]["kid"].as_str().expect("a name").to_owned();

    // It is granted with the first key and ends when that is gone.
    let long = session.submit(json!({ "command": "sleep 12 && echo long" })).await;
    session.wait_until(&long, |exec| exec["state"] == "running").await;

    let second = step(&stack, "prepare");
    wait_for_keys(&stack, &[&first, &second]).await;
    runs(&session, "prepared").await;
    assert_eq!(step(&stack, "activate"), second);
    // As long as a process takes to notice; either key is good meanwhile.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    runs(&session, "activated").await;
    runs_when_asked(&session, "activated").await;
    assert_eq!(step(&stack, "retire"), first);
    wait_for_keys(&stack, &[&second]).await;
    // Granted with the second key, for the first one is nowhere any more.
    runs(&session, "retired").await;
    runs_when_asked(&session, "retired").await;
    let fresh = stack.session().await;
    runs(&fresh, "another").await;

    let long = session.wait(&long).await;
    assert_eq!((&long["state"], &long["stdout"]["head"]), (&json!("exited"), &json!("long\n")));

    // In haste, without the first step's pause: executors learn the key from the grant itself.
    let third = step(&stack, "prepare");
    step(&stack, "activate");
    step(&stack, "retire");
    wait_for_keys(&stack, &[&third]).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    runs(&session, "hasty").await;
    runs_when_asked(&session, "hasty").await;
    assert_eq!(stack.dev().pids, pids, "nobody was started again");
}
