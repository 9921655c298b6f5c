//! An administrator of the database changes any column of any audit event, in any way, and it is
//! noticed at that event: by the control plane, which does not read what nobody of ours wrote, or by
//! whoever verifies an export.

use std::process::Output;

use serde_json::{Value, json};
use tests::Stack;

/// A column of `audit_events`, as the database describes it.
struct Column {
    name: String,
    kind: String,
}

impl Column {
    /// What its value is changed to, as SQL, where it has one.
    fn others(&self) -> Vec<String> {
        let name = &self.name;
        let others = match &*self.kind {
            "text" => vec![format!("{name} || 'x'"), "''".into(), "NULL".into()],
            "bigint" => vec![format!("{name} + 1000000"), "NULL".into()],
            "bytea" => vec![
                format!("set_byte({name}, 0, get_byte({name}, 0) # 1)"),
                format!("substring({name}, 1, octet_length({name}) - 1)"),
                format!("{name} || '\\x00'"),
                "NULL".into(),
            ],
            "ARRAY" => vec![
                format!("{name} || 'x'::text"),
                format!("{name} || NULL::text"),
                format!("ARRAY[{name} || 'x'::text]"),
                format!("'[5:5]={{x}}'::text[]"),
                "NULL".into(),
            ],
            kind => panic!("say what {name}, a {kind}, is changed to"),
        };
        // A number of a chain is never absent: the primary key forbids it.
        let is_key = matches!(&*self.name, "chain" | "seq");
        others.into_iter().filter(|other| !(is_key && other == "NULL")).collect()
    }

    /// What stands in it where nothing did.
    fn new_values(&self) -> Vec<&'static str> {
        match &*self.kind {
            "text" => vec!["'x'", "''"],
            "bigint" => vec!["1", "0"],
            "bytea" => vec!["decode(repeat('11', 32), 'hex')", "decode(repeat('11', 16), 'hex')"],
            "ARRAY" => vec!["ARRAY['x']", "'{}'"],
            kind => panic!("say what {}, a {kind}, may become", self.name),
        }
    }
}

/// Changes what no role of ours can: triggers are off.
fn tamper(stack: &Stack, sql: &str) -> String {
    let sql = format!("SET session_replication_role = replica; {sql}");
    stack.psql_as("superuser", &sql).expect("a superuser may")
}

fn columns(stack: &Stack) -> Vec<Column> {
    let sql = "SELECT column_name || ' ' || data_type FROM information_schema.columns
               WHERE table_name = 'audit_events' ORDER BY ordinal_position";
    let lines = stack.psql_as("owner", sql).expect("a list");
    let column = |line: &str| {
        let (name, kind) = line.split_once(' ').expect("two words");
        Column { name: name.into(), kind: kind.into() }
    };
    lines.lines().map(column).collect()
}

fn verify(stack: &Stack, file: &str) -> Output {
    let key = stack.data_dir().join("audit.pub");
    let mut command = stack.cli(&["audit", "verify", "--json", "--from", file, "--key"]);
    command.arg(key).output().expect("the program starts")
}

/// The number of the event that is said to be wrong; `None` if all is well.
async fn first_bad(stack: &Stack) -> Option<i64> {
    let answer = stack.owner("acme").get("/v1/audit/export").await;
    if answer.status == 409 {
        assert_eq!(answer.code(), "audit_event_changed", "{}", answer.text);
        let number = answer.text.split("audit event ").nth(1).expect("a number");
        return number.split(' ').next().and_then(|it| it.parse().ok());
    }
    assert_eq!(answer.status, 200, "{}", answer.text);
    let file = stack.data_dir().join("columns.jsonl");
    std::fs::write(&file, &answer.text).expect("a file");
    let output = verify(stack, &file.to_string_lossy());
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["ok"], json!(output.status.success()), "{report}");
    (!output.status.success()).then(|| report["first_bad_seq"].as_i64().expect("a number"))
}

#[tokio::test]
async fn a_change_of_any_column_is_noticed_at_its_event() {
    let stack = Stack::start("columns");
    let (session, chain) = (stack.session().await, stack.tenant_id("acme").await);
    session.run_approved(json!({ "command": "printf columns | tee columns" })).await;
    let erased = session.run("echo erased").await;
    let owner = stack.owner("acme");
    let body = json!({ "exec_id": erased["exec_id"] });
    owner.post("/v1/audit/erasures", body).await.expect(201);
    assert_eq!(first_bad(&stack).await, None);
    let columns = columns(&stack);
    assert!(columns.len() >= 27);
    tamper(&stack, "CREATE TABLE kept AS SELECT * FROM audit_events");
    for column in &columns {
        if !matches!(&*column.name, "chain" | "seq") {
            tamper(
                &stack,
                &format!("ALTER TABLE audit_events ALTER {} DROP NOT NULL", column.name),
            );
        }
    }

    let (mut missed, mut tried) = (Vec::new(), 0);
    for column in &columns {
        let name = &column.name;
        let others = column.others().into_iter().map(|value| ("IS NOT NULL", value));
        let new = column.new_values().into_iter().map(|value| ("IS NULL", value.to_owned()));
        for (before, value) in others.chain(new) {
            // One that says something: an empty list or text beside it is another one.
            let found = format!(
                "SELECT seq FROM kept WHERE chain = '{chain}' AND {name} {before}
                   AND seq > 1 AND seq < (SELECT max(seq) FROM kept WHERE chain = '{chain}')
                   AND {name} IS DISTINCT FROM {value} ORDER BY seq DESC LIMIT 1"
            );
            let Ok(seq) = tamper(&stack, &found).parse::<i64>() else { continue };
            let event = format!("WHERE chain = '{chain}' AND seq = {seq}");
            tamper(&stack, &format!("UPDATE audit_events SET {name} = {value} {event}"));
            let bad = first_bad(&stack).await;
            if bad != Some(seq) {
                missed.push(format!("{name} = {value} in {seq}: {bad:?}"));
            }
            tamper(
                &stack,
                &format!(
                    "DELETE FROM audit_events WHERE chain = '{chain}' AND seq IN ({seq}, {seq} + 1000000)
                        OR chain IN ('{chain}x', '');
                     INSERT INTO audit_events SELECT * FROM kept {event}"
                ),
            );
            tried += 1;
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
    // Every column but one had a value somewhere, and every one but those that need one had none.
    assert!(tried > 100, "{tried}");
    assert_eq!(first_bad(&stack).await, None);
}

#[tokio::test]
async fn an_event_that_was_changed_does_not_keep_others_from_being_found() {
    let stack = Stack::start("malformed");
    let chain = stack.tenant_id("acme").await;
    let owner = stack.owner("acme");
    let token = json!({ "name": "needle", "role": "viewer" });
    owner.post("/v1/tokens", token.clone()).await.expect(201);
    tamper(
        &stack,
        &format!(
            "UPDATE audit_events SET hash = substring(hash, 1, 31) WHERE chain = '{chain}' AND seq = 2"
        ),
    );
    // Read through, it is named.
    let answer = owner.get("/v1/audit/events").await;
    assert_eq!((answer.status, answer.code()), (409, "audit_event_changed"));
    assert!(answer.text.contains("audit event 2 "), "{}", answer.text);
    // Once its block is full, the others of it are found by their words.
    let database = stack.dev().database_url.clone();
    let mut append = std::process::Command::new(tests::bin_dir().join("bulkhead-control-plane"));
    append.args(["measure-append", "--tenant", &chain, "--writers", "1", "--events", "600"]);
    let status = append.env("DATABASE_URL", database).output().expect("the program starts");
    assert!(status.status.success(), "{status:?}");
    let indexed = async {
        loop {
            let found = owner.get("/v1/audit/events?q=needle&limit=1").await;
            if found.status == 200 {
                break found.expect(200);
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let limit = std::time::Duration::from_secs(60);
    let found = tokio::time::timeout(limit, indexed).await.expect("the block is indexed");
    assert_eq!(found["items"][0]["action"], "token.create", "{found}");
}

/// An export that has begun cannot answer with an error any more.
#[tokio::test]
async fn an_event_that_was_changed_far_behind_is_named_by_the_export_that_breaks_off() {
    let stack = Stack::start("far-behind");
    let chain = stack.tenant_id("acme").await;
    let database = stack.dev().database_url.clone();
    let mut append = std::process::Command::new(tests::bin_dir().join("bulkhead-control-plane"));
    append.args(["measure-append", "--tenant", &chain, "--writers", "1"]);
    append.args(["--events", "3000", "--per-commit", "1000"]);
    let status = append.env("DATABASE_URL", database).output().expect("the program starts");
    assert!(status.status.success(), "{status:?}");
    tamper(
        &stack,
        &format!(
            "UPDATE audit_events SET hash = substring(hash, 1, 31) WHERE chain = '{chain}' AND seq = 2345"
        ),
    );
    let out = stack.data_dir().join("broken.jsonl");
    let mut export = stack.cli(&["audit", "export", "--tenant", "acme", "--out"]);
    let output = export.arg(&out).output().expect("the program starts");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("broke the export off: audit event 2345 "), "{told}");
    assert!(told.contains("audit_event_changed"), "{told}");
    assert!(!out.exists(), "half an export is worth nothing");
    // What another client keeps of it says the same.
    let mut sent = Vec::new();
    let owner = stack.owner("acme");
    let mut answer = owner.0.download("/v1/audit/export").await.expect("an answer");
    let error = loop {
        match answer.next().await {
            Ok(piece) => sent.extend(piece.expect("it breaks off before its end")),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("broke"), "{error}");
    std::fs::write(&out, sent).expect("a file");
    let output = verify(&stack, &out.to_string_lossy());
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["first_bad_seq"], json!(2345), "{report}");
    assert!(report.to_string().contains("broke the export off after event 2344"), "{report}");
}
