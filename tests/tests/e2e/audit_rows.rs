//! Every operation that changes something leaves exactly the audit rows of
//! `tests/golden/audit-rows.txt`. The operations come from `/openapi.json`: a new one fails here
//! until it is done below and has its line. `BULKHEAD_UPDATE=1` writes the file anew.

mod uses;

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Caller, Stack, TestSession};
use uses::{decide, exec, strict};

/// What executors report, and where it is seen: the real executor of the stack sends them, sealed
/// with keys that a test does not have.
const BY_EXECUTORS: [(&str, &str); 6] = [
    ("reply_to_call", "its outcome is in put_file"),
    ("report_alive", "none; every five seconds, and what follows from silence has rows of its own"),
    ("report_exec_loss", "exec.output_lost: e2e::lost_output"),
    ("report_exec_output", "its digest is in the exec.finish of create_exec"),
    ("report_exec_result", "the exec.finish of create_exec"),
    ("report_exec_started", "none; that it may start is exec.authorize in create_exec"),
];
/// Why an operation leaves nothing. Each of the others must leave something.
const WITHOUT_ROWS: [(&str, &str); 5] = [
    ("check_policy", "asks, changes nothing"),
    ("create_audit_checkpoint", "adds a signed checkpoint, which is evidence itself"),
    ("explain_policy", "asks, changes nothing"),
    ("propose_rule", "drafts a rule, changes nothing; putting it is policy.put"),
    ("simulate_policy", "asks, changes nothing"),
];
/// Operations that change nothing and are on record all the same.
const READS: [&str; 3] = ["export_audit", "get_file", "list_files"];
/// Operations that leave different rows, by what they are used for.
const VARIANTS: [(&str, &[&str]); 8] = [
    ("cancel_exec", &["running", "asked"]),
    ("create_exec", &["allowed", "denied", "asked and denied", "out of time"]),
    ("create_turn", &["allowed", "denied"]),
    ("decide_approval", &["approve", "deny", "for the session", "first of two", "last of two"]),
    ("delete_file", &["there", "missing"]),
    ("get_file", &["file", "archive", "missing"]),
    ("list_files", &["archive"]),
    ("put_file", &["file", "folder", "archive"]),
];
/// Commands of the control plane that change something.
const COMMANDS: [&str; 8] = [
    "platform-token",
    "token-key prepare",
    "token-key activate",
    "grant-key prepare",
    "grant-key activate",
    "grant-key retire",
    "rotate-audit-key",
    "rotate-audit-key",
];
/// Runs until its terminal gets another size.
const UNTIL_RESIZED: &str = "trap 'exit 0' WINCH; echo ready; while :; do sleep 0.05; done";

/// One audit row: chain, number, action and outcome.
type Row = (String, i64, String);

/// A stack of its own, so that nothing else writes.
struct Log<'a> {
    stack: &'a Stack,
    /// Every row up to here belongs to what was done before.
    seen: Vec<Row>,
}

impl Log<'_> {
    /// All rows of all chains, each chain in order.
    async fn rows(&self) -> Vec<Row> {
        let tenants = self.stack.platform().get("/v1/tenants?limit=200").await.expect(200);
        let mut chains = vec![("system".to_owned(), "system".to_owned())];
        for tenant in tenants["items"].as_array().expect("a list") {
            let text = |key: &str| tenant[key].as_str().expect("a text").to_owned();
            chains.push((text("tenant_id"), text("name")));
        }
        let mut rows = Vec::new();
        for (id, name) in chains {
            let scope = format!("SET LOCAL app.tenant_id = '{id}'");
            let read = format!(
                "SELECT seq, action || ' ' || outcome FROM audit_events
                 WHERE chain = '{id}' ORDER BY seq"
            );
            let printed = self.stack.psql(&format!("BEGIN; {scope}; {read}; COMMIT"));
            for line in printed.expect("rows").lines() {
                let (seq, what) = line.split_once('|').expect("two columns");
                rows.push((name.clone(), seq.parse().expect("a number"), what.to_owned()));
            }
        }
        rows
    }

    /// What is there now was there before the operation.
    async fn mark(&mut self) {
        self.seen = self.rows().await;
    }

    /// The rows since the mark.
    async fn since(&mut self) -> Vec<String> {
        let now = self.rows().await;
        let new = now
            .iter()
            .filter(|row| !self.seen.contains(row))
            .map(|(chain, _, what)| format!("{chain} {what}"))
            .collect();
        self.seen = now;
        new
    }
}

fn id(made: &Value, key: &str) -> String {
    made[key].as_str().expect("an id").to_owned()
}

fn exec_path(exec: &Value, action: &str) -> String {
    format!("/v1/execs/{}/{action}", id(exec, "exec_id"))
}

/// An exec that runs.
async fn running(session: &TestSession, body: Value) -> Value {
    let exec = session.submit(body).await;
    let decided = |exec: &Value| exec["approval_id"].is_string() || !exec["decision"].is_null();
    let decided = session.wait_until(&exec, decided).await;
    if let Some(approval) = decided["approval_id"].as_str() {
        session.decide(approval, "approve", None).await;
    }
    session.wait_until(&exec, |exec| exec["state"] == "running").await
}

/// Waits for an event of the session.
async fn event(session: &TestSession, kind: &str) {
    let mut events = session.agent.0.events(&session.id, 0);
    let found = async { while events.next().await.expect("events").kind != kind {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), found).await.expect(kind);
}

async fn token(stack: &Stack, tenant: &str, role: &str) -> Caller {
    let body = json!({ "name": "rows", "role": role });
    let made = stack.owner(tenant).post("/v1/tokens", body).await.expect(201);
    stack.caller(made["token"].as_str())
}

/// What belongs to sessions, execs and turns: prepares, marks, does it, and waits for all that
/// follows from it.
async fn work(log: &mut Log<'_>, operation: &str, variant: &str) -> Option<Answer> {
    let tenant = if variant.ends_with("of two") { "globex" } else { "acme" };
    let session = TestSession::create(log.stack, tenant).await;
    let at = |what: &str| format!("/v1/sessions/{}/{what}", session.id);
    let agent = &session.agent;
    Some(match operation {
        "create_session" => {
            log.mark().await;
            agent.post("/v1/sessions", json!({})).await
        }
        "delete_session" | "shutdown_session" => {
            log.mark().await;
            let answer = match operation {
                "delete_session" => agent.delete(&format!("/v1/sessions/{}", session.id)).await,
                _ => agent.post(&at("shutdown"), json!({})).await,
            };
            event(&session, "session.closed").await;
            answer
        }
        "interrupt_session" => {
            let turn = agent.post(&at("turns"), json!({ "input": "run 'sleep 999'" })).await;
            let turn = turn.expect(201);
            event(&session, "exec.running").await;
            log.mark().await;
            let answer = agent.post(&at("interrupt"), json!({})).await;
            session.wait_turn(&turn).await;
            answer
        }
        "create_turn" => {
            let session = strict(session, variant == "denied").await;
            let command = if variant == "denied" { "touch denied" } else { "true" };
            let body = json!({ "input": format!("run '{command}'") });
            log.mark().await;
            let path = format!("/v1/sessions/{}/turns", session.id);
            let answer = session.agent.post(&path, body).await;
            session.wait_turn(&answer.body).await;
            answer
        }
        "create_exec" => exec(log, session, variant).await,
        "cancel_exec" | "signal_exec" => {
            let command = if variant == "asked" { "touch asked" } else { "sleep 999" };
            let body = json!({ "command": command });
            let exec = match variant {
                "asked" => session.submit(body).await,
                _ => running(&session, body).await,
            };
            if variant == "asked" {
                session.approval_of(&exec).await;
            }
            log.mark().await;
            let answer = match operation {
                "cancel_exec" => agent.post(&exec_path(&exec, "cancel"), json!({})).await,
                _ => agent.post(&exec_path(&exec, "signal"), json!({ "signal": "KILL" })).await,
            };
            session.wait(&exec).await;
            answer
        }
        "send_exec_input" => {
            let exec = running(&session, json!({ "command": "cat", "stdin_open": true })).await;
            log.mark().await;
            let body = json!({ "data": "x", "close": true });
            let answer = agent.post(&exec_path(&exec, "stdin"), body).await;
            session.wait(&exec).await;
            answer
        }
        "resize_exec" => {
            let tty = json!({ "rows": 11, "cols": 22 });
            let exec = running(&session, json!({ "command": UNTIL_RESIZED, "tty": tty })).await;
            let output = format!("{}?stream=stdout", exec_path(&exec, "output"));
            while !agent.get(&output).await.text.contains("ready") {}
            log.mark().await;
            let body = json!({ "rows": 33, "cols": 44 });
            let answer = agent.post(&exec_path(&exec, "resize"), body).await;
            session.wait(&exec).await;
            answer
        }
        "decide_approval" => decide(log, &session, variant).await,
        "propose_rule" => {
            let exec = session.submit(json!({ "command": "cargo test" })).await;
            let approval = session.approval_of(&exec).await;
            log.mark().await;
            let path = format!("/v1/approvals/{approval}/proposal");
            session.reviewer.post(&path, json!({})).await
        }
        "put_file" | "get_file" | "delete_file" | "put_workspace" | "list_files" => {
            // The sandbox is there, and the file.
            session.run("true").await;
            agent.call(Method::PUT, &at("files/a"), Some(json!("content"))).await;
            agent.call(Method::PUT, &at("files/d?kind=directory"), None).await;
            // The end of an archive without files.
            let tar = || Some(json!("\0".repeat(1024)));
            log.mark().await;
            match (operation, variant) {
                ("put_file", "folder") => {
                    agent.call(Method::PUT, &at("files/e?kind=directory"), None).await
                }
                ("put_file", "archive") => {
                    agent.call(Method::PUT, &at("files/d?kind=tar"), tar()).await
                }
                ("put_file", _) => {
                    agent.call(Method::PUT, &at("files/b"), Some(json!("content"))).await
                }
                ("get_file", "archive") => agent.get(&at("files/d?kind=tar")).await,
                ("list_files", _) => agent.get(&at("files?kind=tar")).await,
                ("get_file", "missing") => agent.get(&at("files/none")).await,
                ("get_file", _) => agent.get(&at("files/a")).await,
                ("delete_file", "missing") => agent.delete(&at("files/none")).await,
                ("delete_file", _) => agent.delete(&at("files/a")).await,
                _ => agent.call(Method::PUT, &at("files?kind=tar"), tar()).await,
            }
        }
        _ => return None,
    })
}

/// Runs one of the control plane's own commands, as an operator does.
fn command(stack: &Stack, arguments: &str) {
    let status = std::process::Command::new(tests::bin_dir().join("bulkhead-control-plane"))
        .args(arguments.split(' '))
        .env("BULKHEAD_KEY_DIR", stack.data_dir().join("keys"))
        .env("DATABASE_URL", &stack.dev().database_url)
        .output();
    status.expect("the program starts");
}

/// What belongs to tenants, tokens, policy and the log itself. Nothing follows later from it.
async fn manage(log: &mut Log<'_>, operation: &str) -> Option<Answer> {
    let stack = log.stack;
    let owner = stack.owner("globex");
    let executor = token(stack, "globex", "executor").await;
    let new_token = json!({ "name": "new", "role": "viewer" });
    let hook = json!({ "url": "https://1.1.1.1/hook", "events": ["session.closed"] });
    let shipped = owner.get("/v1/policy?version=0").await.expect(200);
    let policy = json!({ "text": shipped["text"] });
    let tenant = stack.tenant_id("globex").await;
    let doomed = match operation {
        "revoke_token" => {
            id(&owner.post("/v1/tokens", new_token.clone()).await.expect(201), "token_id")
        }
        "delete_webhook" => {
            id(&owner.post("/v1/webhooks", hook.clone()).await.expect(201), "webhook_id")
        }
        _ => String::new(),
    };
    log.mark().await;
    Some(match operation {
        "create_tenant" => stack.platform().post("/v1/tenants", json!({ "name": "new" })).await,
        "set_quota" => {
            let path = format!("/v1/tenants/{tenant}/quota");
            stack.platform().call(Method::PUT, &path, Some(json!({}))).await
        }
        "create_token" => owner.post("/v1/tokens", new_token).await,
        "revoke_token" => owner.delete(&format!("/v1/tokens/{doomed}")).await,
        "create_webhook" => owner.post("/v1/webhooks", hook).await,
        "delete_webhook" => owner.delete(&format!("/v1/webhooks/{doomed}")).await,
        "enrol_executor" => {
            let body = json!({
                "executor_id": "exr_0123456789abcdef0123456789abcdef", "version": "0",
                "host": "nowhere", "image_digest": "sha256:0",
            });
            executor.post("/v1/executors", body).await
        }
        "put_policy" => owner.call(Method::PUT, "/v1/policy", Some(policy)).await,
        "check_policy" => owner.post("/v1/policy/check", json!({ "command": "ls" })).await,
        "explain_policy" => owner.post("/v1/policy/explain", json!({ "command": "ls" })).await,
        "simulate_policy" => owner.post("/v1/policy/simulate", policy).await,
        "create_audit_checkpoint" => owner.post("/v1/audit/checkpoints", json!({})).await,
        "create_audit_review" => {
            let body = json!({ "seq": 1, "verdict": "ok" });
            stack.reviewer("globex").post("/v1/audit/reviews", body).await
        }
        "create_audit_erasure" => {
            let body = json!({ "before": "2020-01-01T00:00:00Z" });
            owner.post("/v1/audit/erasures", body).await
        }
        "put_audit_retention" => {
            owner.call(Method::PUT, "/v1/audit/retention", Some(json!({ "days": 365 }))).await
        }
        "put_audit_sampling" => {
            owner.call(Method::PUT, "/v1/audit/sampling", Some(json!({ "rules": [] }))).await
        }
        "export_audit" => owner.get("/v1/audit/export").await,
        _ => return None,
    })
}

/// The operations of the description that change something, and the two that do not.
async fn operations(stack: &Stack) -> Vec<String> {
    let api = stack.anonymous().get("/openapi.json").await.expect(200);
    let mut found = Vec::new();
    for item in api["paths"].as_object().expect("paths").values() {
        for (method, operation) in item.as_object().expect("methods") {
            let name = id(operation, "operationId");
            if method != "get" || READS.contains(&name.as_str()) {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn every_operation_leaves_exactly_its_rows() {
    let stack = Stack::start("audit-rows");
    let operations = operations(&stack).await;
    assert!(operations.len() > 30, "{operations:?}");
    let mut log = Log { stack: &stack, seen: Vec::new() };
    let mut lines = String::new();
    for operation in &operations {
        if let Some((_, where_seen)) = BY_EXECUTORS.iter().find(|(name, _)| name == operation) {
            lines.push_str(&format!("{operation}: by executors: {where_seen}\n"));
            continue;
        }
        let variants = VARIANTS.iter().find(|(name, _)| name == operation);
        for variant in variants.map_or(&[""][..], |(_, variants)| variants) {
            let name = [operation.as_str(), variant].join(" ").trim_end().to_owned();
            let done = match work(&mut log, operation, variant).await {
                Some(answer) => Some(answer),
                None => manage(&mut log, operation).await,
            };
            let answer = done.unwrap_or_else(|| panic!("{operation}: do it in audit_rows.rs"));
            let wanted = if *variant == "missing" { 404..405 } else { 200..300 };
            assert!(wanted.contains(&answer.status), "{name}: {answer:?}");
            let rows = log.since().await;
            let why_none = WITHOUT_ROWS.iter().find(|(name, _)| name == operation);
            lines.push_str(&match (rows.is_empty(), why_none) {
                (false, None) => format!("{name}: {}\n", rows.join(", ")),
                (true, Some((_, why))) => format!("{name}: none; it {why}\n"),
                (true, None) => panic!("{name} leaves no row: mend it, or say why not"),
                (false, Some(_)) => panic!("{name} leaves {rows:?}: so it is no WITHOUT_ROWS"),
            });
        }
    }
    for arguments in COMMANDS {
        log.mark().await;
        command(&stack, arguments);
        let rows = log.since().await;
        assert!(!rows.is_empty(), "{arguments} leaves no row");
        lines.push_str(&format!("control-plane {arguments}: {}\n", rows.join(", ")));
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/audit-rows.txt");
    if std::env::var_os("BULKHEAD_UPDATE").is_some() {
        let written = std::fs::create_dir_all(golden.with_file_name(""))
            .and_then(|()| std::fs::write(&golden, &lines));
        written.expect("it can be written");
    }
    // Without the file, what it should say is shown.
    let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(lines, wanted, "audit rows are not those of tests/golden/audit-rows.txt");
}
