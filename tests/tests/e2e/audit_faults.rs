//! The audit log when the database fails under it: nothing is done that is not on record, and what
//! is on record stays one chain.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Replica, Stack};

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

/// Exports a log, `--tenant NAME` or `--system`, and verifies it without the server.
fn assert_verifies(stack: &Stack, whose: &[&str]) {
    let file = stack.data_dir().join("faults.jsonl");
    let file = file.to_string_lossy();
    let mut export = stack.cli(&["audit", "export", "--out", &file]);
    let output = export.args(whose).output().expect("it starts");
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
    assert_verifies(&stack, &["--tenant", "acme"]);
}

/// A transaction of ours that stays open until this is dropped.
struct Held(Child);

impl Held {
    /// Runs SQL in a transaction and keeps it open.
    fn new(database: &str, sql: &str) -> Self {
        let mut psql = Command::new("psql")
            .args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1"])
            .arg(database)
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
    let held = Held::new(&stack.database_as("owner"), hold);
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
    // Each stops it at another place of its one statement. The first stops it when its token is
    // inserted and the head is not moved; the second when the head is moved as well, and its number is
    // ours already.
    let at_head =
        format!("{scope}; SELECT seq FROM audit_heads WHERE chain = '{chain}' FOR UPDATE");
    let at_event = format!(
        "{scope}; INSERT INTO audit_events (chain, seq, time_us, role, action, object, outcome,
                                   detail_sha256, hash)
         SELECT chain, seq + 1, 1, 'x', 'x', 'x', 'ok', '', '' FROM audit_heads
         WHERE chain = '{chain}'"
    );
    for (name, hold) in [("at-head", at_head), ("at-event", at_event)] {
        let lost = kill_while_appending(&stack, name, &hold).await;
        assert_eq!((lost.status, lost.code()), (503, "database_unavailable"), "{}", lost.text);
        // Those that still live answer until Postgres has noticed.
        let tokens = until("Postgres is back", async || {
            let answer = owner.get("/v1/tokens?limit=200").await;
            (answer.status == 200).then_some(answer.body)
        })
        .await;
        assert!(!tokens.to_string().contains(name), "{tokens}");
        until("it makes tokens again", async || {
            let answer = owner.post("/v1/tokens", token("after")).await;
            (answer.status == 201).then_some(())
        })
        .await;
    }
    length_of(&stack, &chain);
    assert_verifies(&stack, &["--tenant", "globex"]);
}

/// How long a chain is, which has no gap and ends where its head says.
fn length_of(stack: &Stack, chain: &str) -> i64 {
    let read = format!(
        "BEGIN; SET LOCAL app.tenant_id = '{chain}';
         SELECT count(*), min(e.seq), max(e.seq), max(h.seq) FROM audit_events e
         JOIN audit_heads h USING (chain) WHERE chain = '{chain}'; COMMIT"
    );
    let read = stack.psql(&read).expect("one row");
    let numbers: Vec<i64> = read.split('|').map(|n| n.parse().expect("a number")).collect();
    let length = numbers[0];
    assert_eq!(numbers, [length, 1, length, length]);
    length
}

/// The backend of a request that wrote its audit event and waits, with its transaction open, to
/// insert a token: the `LOCK TABLE` of a test stops it there.
const BETWEEN: &str = "SELECT a.pid FROM pg_stat_activity a
    JOIN pg_locks l ON l.pid = a.pid AND l.granted AND l.relation = 'audit_events'::regclass
    WHERE l.mode = 'RowExclusiveLock' AND a.wait_event_type = 'Lock'
      AND a.query LIKE 'INSERT INTO tokens%' LIMIT 1";

#[tokio::test]
async fn a_control_plane_killed_between_insert_and_commit_leaves_the_chain_as_it_was() {
    let stack = Stack::start("killed-control-plane");
    let replica = Replica::start(&stack, &[]).await;
    let platform = replica.caller(Some(&stack.dev().platform_token));
    let before = length_of(&stack, "system");
    let held = Held::new(&stack.dev().database_url, "LOCK TABLE tokens IN SHARE MODE");
    // It appends to the chain of the platform first, and then makes the tenant's first token.
    let body = json!({ "name": "killed" });
    let made = tokio::spawn(async move { platform.post("/v1/tenants", body).await });
    let backend = until("its audit event is inserted", async || {
        stack.psql(BETWEEN).ok().filter(|pid| !pid.is_empty())
    });
    let backend = backend.await;
    // SIGKILL.
    drop(replica);
    drop(held);
    assert_eq!(made.await.expect("no panic").status, 0, "no answer came");
    let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {backend}");
    until("its backend ends", async || stack.psql(&gone).ok().filter(|count| count == "0")).await;
    assert_eq!(length_of(&stack, "system"), before);
    // Its number and the tenant's name are free.
    stack.platform().post("/v1/tenants", json!({ "name": "killed" })).await.expect(201);
    assert_eq!(length_of(&stack, "system"), before + 1);
    assert_verifies(&stack, &["--system"]);

    nothing_acknowledged_is_lost(&stack).await;
}

/// Many make tokens until the control plane that they talk to is killed in the midst of it.
async fn nothing_acknowledged_is_lost(stack: &Stack) {
    let replica = Replica::start(stack, &[]).await;
    let (sender, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..16 {
        let owner = replica.caller(Some(&stack.dev().tenants["globex"].owner_token));
        let sender = sender.clone();
        tokio::spawn(async move {
            let body = json!({ "name": "kill", "role": "viewer" });
            loop {
                let answer = owner.post("/v1/tokens", body.clone()).await;
                if answer.status != 201 {
                    let _ = sender.send(Err(answer));
                    return;
                }
                let _ = sender.send(Ok(answer.body["token_id"].clone()));
            }
        });
    }
    drop(sender);
    let mut tokens = Vec::new();
    while tokens.len() < 100 {
        tokens.push(acknowledged.recv().await.expect("they go on").expect("a token"));
    }
    drop(replica);
    while let Some(last) = acknowledged.recv().await {
        match last {
            Ok(token) => tokens.push(token),
            Err(answer) => assert_eq!(answer.status, 0, "{answer:?}"),
        }
    }
    let chain = stack.tenant_id("globex").await;
    let scope = format!("SET LOCAL app.tenant_id = '{chain}'");
    let ids: Vec<String> =
        tokens.iter().map(|id| format!("'{}'", id.as_str().expect("an id"))).collect();
    let kept = format!("SELECT count(*) FROM tokens WHERE id IN ({})", ids.join(","));
    let kept = stack.psql(&format!("BEGIN; {scope}; {kept}; COMMIT")).expect("a number");
    assert_eq!(kept, tokens.len().to_string(), "what was answered is there");
    // No change without its row and no row without its change, answered or not.
    let apart = format!(
        "SELECT count(*) FROM tokens t FULL JOIN (
             SELECT object FROM audit_events WHERE chain = '{chain}' AND action = 'token.create'
         ) e ON e.object = t.id WHERE t.id IS NULL OR e.object IS NULL"
    );
    let apart = stack.psql(&format!("BEGIN; {scope}; {apart}; COMMIT")).expect("a number");
    assert_eq!(apart, "0");
    length_of(stack, &chain);
    assert_verifies(stack, &["--tenant", "globex"]);
}
