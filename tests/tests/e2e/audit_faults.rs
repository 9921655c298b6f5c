//! The audit log when the database fails under it: nothing is done that is not on record, and what
//! is on record stays one chain.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Stack};

const OTHERS: &str = "FROM pg_stat_activity WHERE usename = current_user
                      AND pid <> pg_backend_pid()";

/// Looks until the database or a server that starts anew is as wanted.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect(what)
}

/// Makes new transactions of the service's role read-only or not, and ends its connections.
fn set_read_only(stack: &Stack, read_only: bool) {
    let setting = match read_only {
        true => "SET default_transaction_read_only = on",
        false => "RESET default_transaction_read_only",
    };
    // READ WRITE, since this connection too begins as the role does.
    let sql = format!("BEGIN READ WRITE; ALTER ROLE CURRENT_USER {setting}; COMMIT");
    stack.psql(&sql).expect("a role may set its own defaults");
    stack.psql(&format!("SELECT pg_terminate_backend(pid) {OTHERS}")).expect("they end");
}

/// What is in tables that requests change, and in acme's chain.
fn counted(stack: &Stack, acme: &str) -> String {
    let tables = ["execs", "sessions", "tokens", "policies", "audit_events"]
        .map(|table| format!("(SELECT count(*) FROM {table})"));
    let scope = format!("SET LOCAL app.tenant_id = '{acme}'");
    let count = format!("SELECT {}", tables.join(", "));
    stack.psql(&format!("BEGIN; {scope}; {count}; COMMIT")).expect("numbers")
}

/// Exports a tenant's log and verifies it without the server.
fn assert_verifies(stack: &Stack, tenant: &str) {
    let file = stack.data_dir().join("faults.jsonl");
    let file = file.to_string_lossy();
    let mut export = stack.cli(&["audit", "export", "--out", &file, "--tenant", tenant]);
    let output = export.output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let key = stack.data_dir().join("audit.pub");
    let mut verify = stack.cli(&["audit", "verify", "--from", &file, "--key"]);
    let output = verify.arg(key).output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_read_only_database_refuses_every_change_and_recovers() {
    let stack = Stack::start("read-only");
    let (session, acme) = (stack.session().await, stack.tenant_id("acme").await);
    session.run("true").await;
    let asked = session.submit(json!({ "command": "touch asked" })).await;
    let approval = session.approval_of(&asked).await;
    let owner = stack.owner("acme");
    let shipped = owner.get("/v1/policy?version=0").await.expect(200);
    let execs = format!("/v1/sessions/{}/execs", session.id);

    set_read_only(&stack, true);
    until("reads go on", async || (owner.get(&execs).await.status == 200).then_some(())).await;
    let before = counted(&stack, &acme);
    let closing = format!("/v1/sessions/{}", session.id);
    let decision = format!("/v1/approvals/{approval}/decision");
    let token = json!({ "name": "t", "role": "viewer" });
    for (method, path, body) in [
        (Method::POST, execs.as_str(), json!({ "command": "true" })),
        (Method::POST, "/v1/sessions", json!({})),
        (Method::POST, decision.as_str(), json!({ "decision": "approve" })),
        (Method::POST, "/v1/tokens", token),
        (Method::PUT, "/v1/policy", json!({ "text": shipped["text"] })),
        (Method::POST, "/v1/audit/reviews", json!({ "seq": 1, "verdict": "ok" })),
        (Method::GET, "/v1/audit/export", Value::Null),
        (Method::DELETE, closing.as_str(), json!({})),
    ] {
        let body = (!body.is_null()).then_some(body);
        let answer = owner.call(method.clone(), path, body).await;
        let got = (answer.status, answer.code());
        assert_eq!(got, (503, "database_unavailable"), "{method} {path}: {}", answer.text);
    }
    assert_eq!(counted(&stack, &acme), before, "nothing was changed and nothing recorded");

    set_read_only(&stack, false);
    let again = until("it recovers", async || {
        let answer = owner.post(&execs, json!({ "command": "true" })).await;
        (answer.status == 201).then_some(answer.body)
    });
    assert_eq!(session.wait(&again.await).await["state"], "exited");
    let waiting = owner.get(&format!("/v1/approvals/{approval}")).await.expect(200);
    assert_eq!(waiting["state"], "pending", "{waiting}");
    session.decide(&approval, "approve", None).await;
    assert_eq!(session.wait(&asked).await["state"], "exited");
    assert_verifies(&stack, "acme");
}

/// A transaction of ours that stays open until this is dropped.
struct Held(Child);

impl Held {
    /// Runs SQL in a transaction and keeps it open.
    fn new(stack: &Stack, sql: &str) -> Self {
        let mut psql = Command::new("psql")
            .args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1"])
            .arg(&stack.dev().database_url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql starts");
        let mut stdin = psql.stdin.take().expect("piped");
        writeln!(stdin, "BEGIN; {sql};\n\\echo held").expect("it reads");
        stdin.flush().expect("it reads");
        let stdout = psql.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line == "held")), "{sql}");
        psql.stdin = Some(stdin);
        Self(psql)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills the backend that is making a token while something of ours stops its append.
async fn kill_while_appending(stack: &Stack, name: &str, hold: &str) -> Answer {
    let held = Held::new(stack, hold);
    let owner = stack.owner("globex");
    let body = json!({ "name": name, "role": "viewer" });
    let made = tokio::spawn(async move { owner.post("/v1/tokens", body).await });
    let stopped = format!("SELECT pid {OTHERS} AND wait_event_type = 'Lock' LIMIT 1");
    let pid = until("the append waits for us", async || {
        stack.psql(&stopped).ok().filter(|pid| !pid.is_empty())
    });
    let status = Command::new("kill").args(["-KILL", &pid.await]).status();
    assert!(status.is_ok_and(|status| status.success()));
    drop(held);
    made.await.expect("no panic")
}

#[tokio::test]
async fn a_backend_killed_between_insert_and_commit_leaves_a_chain_that_verifies() {
    let stack = Stack::start("killed-backend");
    let chain = stack.tenant_id("globex").await;
    let owner = stack.owner("globex");
    let token = |name: &str| json!({ "name": name, "role": "viewer" });
    owner.post("/v1/tokens", token("before")).await.expect(201);
    let scope = format!("SET LOCAL app.tenant_id = '{chain}'");
    // The first stops it when its token is inserted and its event is not; the second when its
    // event is inserted as well: the words under which it will be found are ours already.
    let at_head =
        format!("{scope}; SELECT seq FROM audit_heads WHERE chain = '{chain}' FOR UPDATE");
    let at_terms = format!(
        "{scope}; INSERT INTO audit_terms (chain, term, seq)
         SELECT t.chain, t.term, h.seq + 1 FROM audit_heads h
         JOIN audit_terms t ON t.chain = h.chain AND t.seq = h.seq WHERE h.chain = '{chain}'"
    );
    for (name, hold) in [("at-head", at_head), ("at-terms", at_terms)] {
        let lost = kill_while_appending(&stack, name, &hold).await;
        assert_eq!((lost.status, lost.code()), (503, "database_unavailable"), "{}", lost.text);
        until("Postgres is back", async || {
            (owner.get("/v1/tokens?limit=1").await.status == 200).then_some(())
        })
        .await;
        let tokens = owner.get("/v1/tokens?limit=200").await.expect(200);
        assert!(!tokens.to_string().contains(name), "{tokens}");
        until("it makes tokens again", async || {
            let answer = owner.post("/v1/tokens", token("after")).await;
            (answer.status == 201).then_some(())
        })
        .await;
    }
    let read = format!(
        "SELECT count(*) = max(seq) AND max(seq) = (SELECT seq FROM audit_heads
             WHERE chain = '{chain}') FROM audit_events WHERE chain = '{chain}'"
    );
    let gapless = stack.psql(&format!("BEGIN; {scope}; {read}; COMMIT")).expect("one row");
    assert_eq!(gapless, "t");
    assert_verifies(&stack, "globex");
}
