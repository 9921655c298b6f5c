//! Policy reads the names of files; where a name is a link that leads elsewhere, somebody is asked.

use serde_json::{Value, json};
use tests::{Stack, TestSession};

async fn make(session: &TestSession, script: &str) {
    let made = session.run_approved(json!({ "command": script })).await;
    assert_eq!(made["exit_code"], 0, "{made}");
}

async fn assert_read(session: &TestSession, body: Value) -> String {
    let exec = session.wait(&session.submit(body).await).await;
    assert_eq!(exec["decision"]["decided_by"], "policy", "{exec}");
    assert_eq!((&exec["state"], &exec["exit_code"]), (&json!("exited"), &json!(0)), "{exec}");
    String::from_utf8(session.output(&exec, "stdout").await).expect("text")
}

async fn assert_asked(session: &TestSession, body: Value) {
    let exec = session.submit(body.clone()).await;
    let id = session.approval_of(&exec).await;
    let approval = session.reviewer.get(&format!("/v1/approvals/{id}")).await.expect(200);
    let reasons = approval["reasons"].to_string();
    assert!(reasons.contains("lead out of the workspace, to a hidden file"), "{body}: {reasons}");
    session.decide(&id, "deny", None).await;
    assert_eq!(session.wait(&exec).await["state"], "denied", "{body}");
}

#[tokio::test]
async fn links_that_lead_elsewhere_are_asked_about() {
    let session = Stack::shared().session().await;
    make(
        &session,
        "set -e; mkdir -p src/deep other; echo plain > src/a; echo token > .secret
         ln -s src/a good; ln -s src deep; ln -s /etc/passwd out; ln -s /etc etc; ln -s / root
         ln -s .secret notes; ln -s /proc/self/environ env; ln -s nowhere gone
         ln -s ../out other/far; ln -s ../src other/near",
    )
    .await;
    let command = |text: &str| json!({ "command": text });
    for (text, expected) in [
        ("cat src/a", "plain\n"),
        ("cat good && cat /work/deep/a", "plain\nplain\n"),
        ("cd deep && cat a", "plain\n"),
        ("grep -R plain src", "src/a:plain\n"),
        ("grep -r token other || true", ""),
        ("test -f out && echo there", "there\n"),
    ] {
        assert_eq!(assert_read(&session, command(text)).await, expected, "{text}");
    }
    for text in [
        "cat out",
        "cat src/a out",
        "cat src/a | sort - out",
        "head -n1 etc/passwd",
        "cd etc && cat passwd",
        "cd root && ls",
        "timeout 5 cat notes",
        "cat env",
        "wc -c gone",
        "grep -r x etc",
        "grep -R token other",
        "cd other && grep -R token",
        "cd other && find -L",
        "diff -r other src",
    ] {
        assert_asked(&session, command(text)).await;
    }
    assert_asked(&session, json!({ "command": "ls", "cwd": "/work/etc" })).await;
    // What people approve runs as they saw it.
    let exec = session.submit(command("cat out")).await;
    session.decide(&session.approval_of(&exec).await, "approve", None).await;
    let exec = session.wait(&exec).await;
    assert_eq!((&exec["state"], &exec["exit_code"]), (&json!("exited"), &json!(0)), "{exec}");
    let events = session.reviewer.audit_of(&session.id).await;
    let of_it =
        |event: &&Value| event["object"] == exec["exec_id"] && event["action"] == "exec.authorize";
    let outcomes: Vec<_> = events.iter().filter(of_it).map(|event| &event["outcome"]).collect();
    assert_eq!(outcomes.len(), 3, "allowed, then asked about, then allowed: {outcomes:?}");
}
