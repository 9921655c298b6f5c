//! Details of audit events go when the owner says so or their time is over, and only those; what is
//! left still proves itself.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Caller, Replica, Stack};

use crate::audit_proof::{Folder, verify, verify_independently};

async fn erase(caller: &Caller, body: Value) -> Value {
    caller.post("/v1/audit/erasures", body).await.expect(201)
}

async fn events(caller: &Caller, query: &str) -> Vec<Value> {
    let page = caller.get(&format!("/v1/audit/events?limit=200&{query}")).await.expect(200);
    page["items"].as_array().cloned().unwrap_or_default()
}

/// What the log of a tenant proves now: how many events are erased.
async fn proven(caller: &Caller, name: &str) -> u64 {
    let folder = Folder::new(name);
    let path = folder.path("audit.jsonl");
    let export = caller.get("/v1/audit/export").await;
    assert_eq!(export.status, 200, "{}", export.text);
    std::fs::write(&path, export.text).expect("a file");
    let (code, report) = verify(&path, None);
    assert_eq!(code, Some(0), "{report}");
    assert!(verify_independently(&path, None));
    report["erased"].as_u64().expect("a number")
}

#[tokio::test]
async fn an_erased_exec_leaves_tombstones_that_still_prove_themselves() {
    let stack = Stack::shared();
    let owner = stack.owner("acme");
    let session = stack.session().await;
    let exec = session.run("echo xylographic-words").await;
    let exec_id = exec["exec_id"].as_str().expect("an id");
    assert_eq!(events(&owner, "q=xylographic").await.len(), 2);
    let before = events(&owner, &format!("exec_id={exec_id}")).await;
    assert_eq!(before.len(), 3);

    let done = erase(&owner, json!({ "exec_id": exec_id })).await;
    assert_eq!(done, json!({ "erased": 3, "kept": 0, "more": false }));
    assert_eq!(events(&owner, "q=xylographic").await, [Value::Null; 0]);
    let after = events(&owner, &format!("exec_id={exec_id}")).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after["erased"], true, "{after}");
        for erased in ["actor", "detail", "address", "reasons", "stdout_sha256"] {
            assert!(!after[erased].is_string() && !after[erased].is_object(), "{erased}: {after}");
        }
        for kept in ["seq", "time", "action", "object", "outcome", "token_id", "hash"] {
            assert_eq!(before[kept], after[kept], "{kept}");
        }
    }
    // The erasure itself is on record, with who and how much, and is not erased by the next one.
    assert_eq!(erase(&owner, json!({ "exec_id": exec_id })).await["erased"], 0);
    let records = events(&owner, &format!("exec_id={exec_id}&action=audit.erase")).await;
    assert_eq!(records.len(), 2);
    let record = &records[0];
    assert_eq!((&record["role"], &record["erased"]), (&json!("owner"), &json!(false)));
    assert_eq!(
        record["detail"],
        json!({
            "scope": "exec", "before": null, "erased": 3, "kept": 0,
        })
    );
    assert!(proven(&owner, "erased-exec").await >= 3);
}

#[tokio::test]
async fn what_an_open_exec_needs_stays_until_it_is_over() {
    let stack = Stack::shared();
    let owner = stack.owner("acme");
    let session = stack.session().await;
    session.run("echo over").await;
    let open = session.submit(json!({ "command": "touch asked" })).await;
    session.approval_of(&open).await;
    let exec_id = open["exec_id"].as_str().expect("an id");
    let refused = owner.post("/v1/audit/erasures", json!({ "exec_id": exec_id })).await;
    assert_eq!((refused.status, refused.code()), (409, "exec_not_finished"));

    // The session's creation, its sandbox and three events of the first exec go; two of the open one stay.
    let done = erase(&owner, json!({ "session_id": session.id })).await;
    assert_eq!(done, json!({ "erased": 5, "kept": 2, "more": false }));
    let kept = events(&owner, &format!("exec_id={exec_id}")).await;
    assert!(kept.iter().all(|event| event["erased"] == false), "{kept:?}");
    session.agent.post(&format!("/v1/execs/{exec_id}/cancel"), json!({})).await;
    session.wait(&open).await;
    let done = erase(&owner, json!({ "session_id": session.id })).await;
    assert_eq!((&done["kept"], &done["more"]), (&json!(0), &json!(false)));
    assert!(done["erased"].as_i64() >= Some(3), "{done}");
}

#[tokio::test]
async fn a_foreign_exec_or_session_cannot_be_erased_nor_found_out() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let exec = session.run("true").await;
    let stranger = stack.owner("globex");
    for (name, id) in [("exec_id", &exec["exec_id"]), ("session_id", &json!(session.id))] {
        let id = id.as_str().expect("an id");
        let random = format!("{}0123456789abcdef0123456789abcdef", &id[..4]);
        let foreign = stranger.post("/v1/audit/erasures", json!({ name: id })).await;
        let missing = stranger.post("/v1/audit/erasures", json!({ name: random })).await;
        assert_eq!((foreign.status, foreign.text), (404, missing.text));
    }
    // Nor past the API.
    let globex = stack.tenant_id("globex").await;
    let erased = stack.psql(&format!(
        "BEGIN; SELECT set_config('app.tenant_id', '{globex}', true);
         SELECT erased, kept FROM erase_audit_details('{}', NULL, NULL, 10); COMMIT",
        exec["exec_id"].as_str().expect("an id")
    ));
    assert!(erased.expect("runs").ends_with("0|0"));
    for body in [
        json!({}),
        json!({ "exec_id": exec["exec_id"], "session_id": session.id }),
        json!({ "before": "2999-01-01T00:00:00Z" }),
    ] {
        let answer = stack.owner("acme").post("/v1/audit/erasures", body.clone()).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_erasure"), "{body}");
    }
    let reviewer = stack.reviewer("acme");
    let body = json!({ "exec_id": exec["exec_id"] });
    assert_eq!(reviewer.post("/v1/audit/erasures", body).await.status, 403);
    let events = events(&reviewer, &format!("session_id={}", session.id)).await;
    assert!(events.iter().all(|event| event["erased"] == false), "{events:?}");
}

#[tokio::test]
async fn everything_before_a_time_goes_but_no_event_that_nobody_has_signed() {
    let stack = Stack::shared();
    let owner = stack.tenant("erase-before").await;
    owner.post("/v1/tokens", json!({ "name": "Mallory", "role": "viewer" })).await.expect(201);
    let last = events(&owner, "").await.last().expect("one")["time"].clone();
    let done = erase(&owner, json!({ "before": last })).await;
    assert_eq!((&done["kept"], &done["more"]), (&json!(0), &json!(false)));
    assert_eq!(events(&owner, "q=mallory").await.len(), 1, "the last one is not before itself");
    let checkpoint = owner.post("/v1/audit/checkpoints", json!({})).await.expect(201);
    let now = &checkpoint["time"];
    assert_eq!(erase(&owner, json!({ "before": now })).await["erased"], 1);
    assert_eq!(events(&owner, "q=mallory").await, [Value::Null; 0]);
    assert!(proven(&owner, "erased-before").await > 1);
    let export = owner.get("/v1/audit/export").await;
    assert!(export.status == 200 && !export.text.contains("Mallory"), "{}", export.text);

    // An event that stands beyond every checkpoint, for the length of one transaction.
    let id = stack.tenant_id("erase-before").await;
    let unsigned = stack.psql_as(
        "owner",
        &format!(
            "BEGIN; SELECT set_config('app.tenant_id', '{id}', true);
         INSERT INTO audit_events (chain, seq, time_us, role, action, object, outcome,
             detail_sha256, salt, actor, reasons, data, hash)
         VALUES ('{id}', 1000000, 1, 'x', 'x', 'x', 'ok', '', '', 'x', '{{}}', '{{}}', '');
         SELECT erased, kept FROM erase_audit_details(NULL, NULL, 2, 10); ROLLBACK"
        ),
    );
    assert!(unsigned.expect("runs").ends_with("0|1"));
}

#[tokio::test]
async fn even_the_owner_of_the_tables_only_erases_whole_details() {
    let stack = Stack::shared();
    stack.session().await;
    let id = stack.tenant_id("acme").await;
    let run = |role: &str, sql: &str| {
        let scope = format!("SELECT set_config('app.tenant_id', '{id}', true)");
        stack.psql_as(role, &format!("BEGIN; {scope}; {sql}; ROLLBACK"))
    };
    for sql in [
        "UPDATE audit_events SET outcome = 'ok', action = 'x' WHERE seq = 1",
        "UPDATE audit_events SET data = '{}' WHERE seq = 1",
        "UPDATE audit_events SET actor = 'nobody' WHERE seq = 1",
        "UPDATE audit_events SET hash = detail_sha256 WHERE seq = 1",
        "UPDATE audit_events SET salt = NULL, actor = NULL, address = NULL, reasons = NULL,
             stdout_sha256 = NULL, stderr_sha256 = NULL, data = NULL, seq = 0 WHERE seq = 1",
        "DELETE FROM audit_events WHERE seq = 1",
        "TRUNCATE audit_events",
    ] {
        for role in ["owner", "superuser"] {
            let refused = run(role, sql).expect_err(sql);
            assert!(refused.contains("never changed"), "{role}: {sql}: {refused}");
        }
        let scope = format!("SELECT set_config('app.tenant_id', '{id}', true)");
        let refused = stack.psql(&format!("BEGIN; {scope}; {sql}; ROLLBACK")).expect_err(sql);
        assert!(refused.contains("permission denied"), "{sql}: {refused}");
    }
    for arguments in ["NULL, NULL, NULL, 1", "'x', 'y', NULL, 1", "NULL, NULL, 1, 0"] {
        let sql = format!("SELECT erase_audit_details({arguments})");
        let refused = run("owner", &sql).expect_err(&sql);
        assert!(refused.contains("erase the details"), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn details_go_by_themselves_when_their_time_is_over() {
    let stack = Stack::shared();
    let owner = stack.tenant("retention").await;
    let put = async |body: Value| owner.call(Method::PUT, "/v1/audit/retention", Some(body)).await;
    for days in [json!(0), json!(3661)] {
        let answer = put(json!({ "days": days })).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_retention"), "{days}");
    }
    let none = owner.get("/v1/audit/retention").await.expect(200);
    assert_eq!((&none["version"], &none["days"]), (&json!(0), &Value::Null));
    let month = put(json!({ "days": 30, "expected_version": 0 })).await.expect(200);
    assert_eq!((&month["version"], &month["days"]), (&json!(1), &json!(30)));
    assert_eq!(put(json!({ "days": null, "expected_version": 0 })).await.status, 409);
    let record = &events(&owner, "action=audit.retention").await[0];
    assert_eq!(record["detail"], json!({ "from": null, "to": { "days": 30 } }));
    owner.post("/v1/audit/checkpoints", json!({})).await.expect(201);

    // No test waits for a day: none is what the API refuses and the sweep understands.
    let id = stack.tenant_id("retention").await;
    let days = r#"{"days": 0}"#;
    let set = format!(
        "BEGIN; SELECT set_config('app.tenant_id', '{id}', true);
         INSERT INTO audit_settings (tenant_id, kind, version, value, created_by, author)
         VALUES ('{id}', 'retention', 2, '{days}', 'test', 'test'); COMMIT"
    );
    stack.psql(&set).expect("sets");
    // It applies every retention with its first look, and then every hour.
    let other = Replica::start(stack, &[("BULKHEAD_AUDIT_SWEEP_S", "1")]).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let record = loop {
        if let Some(record) = events(&owner, "action=audit.erase").await.first() {
            break record.clone();
        }
        assert!(Instant::now() < deadline, "nothing is erased");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((&record["role"], &record["object"]), (&json!("retention"), &json!(id)));
    assert_eq!(record["detail"]["retention_version"], 2, "{record}");
    let all = events(&owner, "").await;
    assert_eq!(all[0]["erased"], true, "{all:?}");
    let of = |event: &&Value| event["action"] == "audit.retention";
    assert_eq!(all.iter().find(of).expect("one")["erased"], false);
    assert!(proven(&owner, "retention").await > 0);
    let metrics = other.caller(None).get("/metrics").await;
    assert!(metrics.text.contains("bulkhead_audit_details_erased_total"), "{}", metrics.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_erases_only_when_it_is_told_so_twice() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let exec = session.run("echo to-be-erased").await;
    let exec_id = exec["exec_id"].as_str().expect("an id");
    let run = |arguments: &[&str]| {
        let output = stack.cli(arguments).args(["--tenant", "acme"]).output();
        output.expect("the program starts")
    };
    let refused = run(&["audit", "erase", "--exec", exec_id]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"), "{refused:?}");
    let done = run(&["audit", "erase", "--exec", exec_id, "--yes", "--json"]);
    let said: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(said, json!({ "erased": 3, "kept": 0 }));
    let shown = run(&["audit", "retention", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["days"], Value::Null);
}
