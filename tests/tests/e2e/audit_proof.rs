//! The audit log proves itself to somebody who has the file, the public key and an old checkpoint;
//! and lets itself be searched, exported and reviewed by those who may.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tests::Stack;

/// A folder for one test, which goes with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = Stack::shared().data_dir().join(format!("audit-test-{name}"));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bulkhead(tenant: &str, arguments: &[&str]) -> Output {
    let mut command = Stack::shared().cli(arguments);
    command.args(["--tenant", tenant]).output().expect("the program starts")
}

fn export(tenant: &str, folder: &Folder, name: &str) -> String {
    let out = folder.path(name);
    let output = bulkhead(tenant, &["audit", "export", "--out", &out]);
    assert!(output.status.success(), "{output:?}");
    out
}

/// Verifies offline: with an address at which nobody answers.
pub(crate) fn verify(file: &str, kept: Option<&str>) -> (Option<i32>, Value) {
    let key = Stack::shared().data_dir().join("audit.pub");
    let mut command = Stack::shared().cli(&["audit", "verify", "--json", "--from", file, "--key"]);
    command.arg(key).env("BULKHEAD_URL", "http://127.0.0.1:1");
    if let Some(kept) = kept {
        command.args(["--checkpoint", kept]);
    }
    let output = command.output().expect("the program starts");
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), said)
}

/// What the second verifier, in Python, says.
pub(crate) fn verify_independently(file: &str, kept: Option<&str>) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify_audit.py");
    let key = Stack::shared().data_dir().join("audit.pub");
    let mut python = Command::new("python3");
    python
        .arg(script)
        .arg("--key")
        .arg(key)
        .args(kept.map(|kept| ["--kept", kept]).iter().flatten());
    python.arg(file).output().expect("python3 is installed by `cargo xtask setup`").status.success()
}

#[tokio::test]
async fn an_export_verifies_offline_and_a_changed_one_does_not() {
    let stack = Stack::shared();
    let session = stack.session().await;
    session.run("echo audited").await;
    let folder = Folder::new("verify");
    let kept = folder.path("kept.jsonl");
    let made = bulkhead("acme", &["audit", "checkpoint", "--out", &kept]);
    assert!(made.status.success(), "{made:?}");
    session.run("echo more").await;
    let file = export("acme", &folder, "audit.jsonl");
    let (code, report) = verify(&file, Some(&kept));
    assert_eq!((code, &report["ok"]), (Some(0), &json!(true)), "{report}");
    assert!(verify_independently(&file, Some(&kept)));

    let text = std::fs::read_to_string(&file).expect("the export");
    let events: Vec<&str> = text.lines().filter(|line| line.starts_with("{\"event\"")).collect();
    let of = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["event"].clone();
    let exported = events.iter().rev().any(|line| of(line)["action"] == "audit.export");
    assert!(exported, "on record before its first byte");

    let changed = folder.path("changed.jsonl");
    let line = events[events.len() - 2];
    let seq = &of(line)["seq"];
    let tampered = line.replacen("\"action\":\"", "\"action\":\"x", 1);
    assert_ne!(line, tampered);
    std::fs::write(&changed, text.replace(line, &tampered)).expect("a file");
    let (code, report) = verify(&changed, None);
    assert_eq!((code, &report["first_bad_seq"]), (Some(1), seq), "{report}");
    assert!(!verify_independently(&changed, None));

    let cut = folder.path("cut.jsonl");
    std::fs::write(&cut, &text[..text.len() / 2]).expect("a file");
    assert_eq!(verify(&cut, None).0, Some(1));
    assert_eq!(verify(&folder.path("missing.jsonl"), None).0, Some(1));
}

#[tokio::test]
async fn an_older_export_does_not_agree_with_a_newer_checkpoint() {
    let session = Stack::shared().session().await;
    let folder = Folder::new("older");
    let file = export("acme", &folder, "audit.jsonl");
    session.run("true").await;
    let kept = folder.path("kept.jsonl");
    let made = bulkhead("acme", &["audit", "checkpoint", "--out", &kept]);
    assert!(made.status.success(), "{made:?}");
    let (code, report) = verify(&file, Some(&kept));
    let problem = report["problem"].as_str().unwrap_or_default();
    assert!(code == Some(1) && problem.contains("old backup"), "{report}");
    assert!(!verify_independently(&file, Some(&kept)));
}

#[tokio::test]
async fn events_are_found_by_what_they_say() {
    let session = Stack::shared().session().await;
    let exec =
        session.run_approved(json!({ "command": "printf needle-in-haystack | tee needle" })).await;
    let exec_id = exec["exec_id"].as_str().expect("an id");
    let found = async |query: &str| -> Vec<String> {
        let path = format!("/v1/audit/events?limit=200&session_id={}&{query}", session.id);
        let page = session.reviewer.get(&path).await.expect(200);
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        items.iter().map(|it| format!("{} {}", text(it, "action"), text(it, "outcome"))).collect()
    };
    let exec_story = [
        "exec.create ok",
        "exec.authorize ask",
        "approval.decide approved",
        "exec.authorize allow",
        "exec.finish exited",
    ];
    assert_eq!(found(&format!("exec_id={exec_id}")).await, exec_story);
    assert_eq!(found("q=needle+haystack").await, exec_story[..4]);
    assert_eq!(found("q=needle+hayfork").await, [""; 0]);
    assert_eq!(found("decision=ask").await, ["exec.authorize ask"]);
    assert_eq!(found("action=exec.finish&outcome=exited").await, ["exec.finish exited"]);
    assert_eq!(found("until=2001-01-01T00:00:00Z").await, [""; 0]);
    assert_eq!(found("since=2001-01-01T00:00:00Z&action=exec.create").await, ["exec.create ok"]);
    let path = format!("/v1/audit/events?exec_id={exec_id}&decision=allow");
    let page = session.reviewer.get(&path).await.expect(200);
    let allowed = &page["items"].as_array().expect("a list")[1];
    let approver = allowed["decision"]["approver"].as_str().unwrap_or_default();
    assert!(approver.starts_with("tok_"), "{allowed}");
    let path = format!("/v1/audit/events?exec_id={exec_id}&action=exec.finish");
    let page = session.reviewer.get(&path).await.expect(200);
    let finished = &page["items"][0];
    assert_eq!(finished["stdout_sha256"], exec["stdout"]["sha256"], "{finished}");
    assert!(finished["sandbox"]["id"].is_string(), "{finished}");
}

#[tokio::test]
async fn every_form_of_export_has_every_event() {
    let session = Stack::shared().session().await;
    session.run("echo forms").await;
    let path = |format: &str| format!("/v1/audit/export?format={format}&session_id={}", session.id);
    let csv = session.reviewer.get(&path("csv")).await;
    assert_eq!((csv.status, csv.text.lines().count()), (200, 6), "{}", csv.text);
    let ocsf = session.reviewer.get(&path("ocsf")).await;
    let events: Vec<Value> =
        ocsf.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|event| event["class_uid"] == 6003 && event["time"].is_i64()));
    let filtered = session.reviewer.get(&path("jsonl")).await;
    assert_eq!((filtered.status, filtered.code()), (422, "invalid_query"));
}

#[tokio::test]
async fn reviews_are_kept_and_on_record() {
    let stack = Stack::shared();
    let reviewer = stack.reviewer("acme");
    let body = json!({ "seq": 1, "verdict": "needs_rule", "comment": "too wide" });
    let review = reviewer.post("/v1/audit/reviews", body.clone()).await.expect(201);
    let page = reviewer.get("/v1/audit/reviews?seq=1").await.expect(200);
    assert_eq!(page["items"][0], review);
    let object = review["review_id"].as_str().expect("an id");
    let page = reviewer.get(&format!("/v1/audit/events?object={object}")).await.expect(200);
    assert_eq!(page["items"][0]["outcome"], "needs_rule");
    let missing = json!({ "seq": i64::MAX, "verdict": "ok" });
    assert_eq!(reviewer.post("/v1/audit/reviews", missing).await.status, 404);
    let agent = stack.agent("acme");
    assert_eq!(agent.post("/v1/audit/reviews", body).await.status, 403);
    let other = stack.reviewer("globex").get("/v1/audit/reviews").await.expect(200);
    assert_eq!(other["items"], json!([]));
}

#[tokio::test]
async fn concurrent_writers_leave_a_gapless_chain() {
    let stack = Stack::shared();
    let reviewer = stack.reviewer("acme");
    let review = |n: usize| {
        let reviewer = reviewer.clone();
        let body = json!({ "seq": 1, "verdict": "ok", "comment": format!("writer {n}") });
        async move {
            loop {
                let answer = reviewer.post("/v1/audit/reviews", body.clone()).await;
                // A writer that waited too long for the head is told so, and leaves nothing behind.
                if answer.status != 503 {
                    break answer.expect(201)["review_id"].as_str().expect("an id").to_owned();
                }
            }
        }
    };
    let mut ids = futures::future::join_all((0..64).map(review)).await;
    let mut recorded = Vec::new();
    let mut page = "/v1/audit/events?action=audit.review&limit=200".to_owned();
    loop {
        let read = reviewer.get(&page).await.expect(200);
        let items = read["items"].as_array().expect("a list");
        recorded.extend(items.iter().map(|it| it["object"].as_str().unwrap_or("").to_owned()));
        let Some(next) = read["next_cursor"].as_str() else { break };
        page = format!("/v1/audit/events?action=audit.review&limit=200&cursor={next}");
    }
    recorded.retain(|id| ids.contains(id));
    ids.sort();
    recorded.sort();
    assert_eq!((ids.len(), &recorded), (64, &ids), "each is on record, once");
    let folder = Folder::new("writers");
    let (code, report) = verify(&export("acme", &folder, "audit.jsonl"), None);
    assert_eq!(code, Some(0), "{report}");
}

#[tokio::test]
async fn only_those_who_may_read_the_log_take_it_away() {
    let stack = Stack::shared();
    // The platform takes its own away and no other: `audit_system`.
    for caller in [stack.agent("acme"), stack.viewer("acme")] {
        assert_eq!(caller.get("/v1/audit/export").await.status, 403);
        assert_eq!(caller.get("/v1/audit/checkpoints").await.status, 403);
        assert_eq!(caller.post("/v1/audit/checkpoints", json!({})).await.status, 403);
    }
    assert_eq!(stack.anonymous().get("/v1/audit/export").await.status, 401);
}

#[tokio::test]
async fn nothing_of_the_proof_can_be_changed_by_the_service_role() {
    let stack = Stack::shared();
    stack.reviewer("acme").post("/v1/audit/checkpoints", json!({})).await.expect(201);
    for sql in [
        "UPDATE audit_checkpoints SET note = ''",
        "DELETE FROM audit_checkpoints",
        "TRUNCATE audit_checkpoints CASCADE",
        "UPDATE audit_checkpoint_proofs SET size = 1",
        "DELETE FROM audit_checkpoint_proofs",
        "DELETE FROM audit_terms",
        "DELETE FROM audit_reviews",
    ] {
        let scope = "SELECT set_config('app.tenant_id', 'system', true)";
        let refused = stack.psql(&format!("BEGIN; {scope}; {sql}; COMMIT")).expect_err(sql);
        assert!(refused.contains("permission denied"), "{sql}: {refused}");
    }
    let witness = stack.data_dir().join("checkpoints.jsonl");
    let lines = std::fs::read_to_string(witness).expect("a file outside the database");
    let last: Value = serde_json::from_str(lines.lines().last().expect("one")).expect("JSON");
    let number = last["number"].as_i64().expect("a number");
    let stored = format!("SELECT note FROM audit_checkpoints WHERE number = {number}");
    let scope = "SELECT set_config('app.tenant_id', 'system', true)";
    let note = stack.psql(&format!("BEGIN; {scope}; {stored}; COMMIT")).expect("reads");
    assert!(note.trim().ends_with(last["note"].as_str().expect("a note").trim()), "{note}");
}

/// The sizes of the pieces in which an answer comes.
async fn pieces(token: &str, path: &str) -> Vec<usize> {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    let address = Stack::shared().dev().api_url.replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(&address).await.expect("connects");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sends");
    let (mut reader, mut line, mut sizes) = (BufReader::new(stream), String::new(), Vec::new());
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).await.expect("a header");
    }
    loop {
        line.clear();
        reader.read_line(&mut line).await.expect("a size");
        let size = usize::from_str_radix(line.trim(), 16).expect("in hex");
        if size == 0 {
            return sizes;
        }
        sizes.push(size);
        reader.read_exact(&mut vec![0; size + 2]).await.expect("a piece");
    }
}

#[tokio::test]
async fn long_events_are_exported_a_few_at_a_time() {
    let stack = Stack::shared();
    let tenant = tests::TestTenant::create(stack, "long").await;
    let session = tenant.session().await;
    let command = format!("echo {}", "x".repeat(64_000));
    for _ in 0..100 {
        session.submit(json!({ "command": command })).await;
    }
    let made = tenant.owner.post("/v1/tokens", json!({ "name": "auditor", "role": "reviewer" }));
    let token = made.await.expect(201)["token"].as_str().expect("a token").to_owned();
    let sizes = pieces(&token, "/v1/audit/export").await;
    let total: usize = sizes.iter().sum();
    assert!(total > 6_000_000, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 5_500_000), "{sizes:?}");
    let folder = Folder::new("long");
    let answer = tenant.owner.get("/v1/audit/export").await;
    let file = folder.path("audit.jsonl");
    std::fs::write(&file, answer.text).expect("a file");
    let (code, report) = verify(&file, None);
    assert_eq!(code, Some(0), "{report}");
    assert!(verify_independently(&file, None));
}
