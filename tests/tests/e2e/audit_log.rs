//! The audit log: complete, chained, and closed to change.

use serde_json::{Value, json};
use tests::{Stack, TestTenant};

#[tokio::test]
async fn every_exec_has_its_authorization_before_its_one_end() {
    let session = Stack::shared().session().await;
    session.run("true").await;
    session.run_approved(json!({ "command": "touch asked" })).await;
    let denied = session.submit(json!({ "command": "touch asked" })).await;
    let approval_id = session.approval_of(&denied).await;
    session.decide(&approval_id, "deny", None).await;
    session.wait(&denied).await;

    let events = session.reviewer.audit_of(&session.id).await;
    let story: Vec<String> = events
        .iter()
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("action"), text("outcome"))
        })
        .collect();
    assert_eq!(
        story,
        [
            "session.create ok",
            "exec.create ok",
            "sandbox.place ok",
            "exec.authorize allow",
            "exec.finish exited",
            "exec.create ok",
            "exec.authorize ask",
            "approval.decide approved",
            "exec.authorize allow",
            "exec.finish exited",
            "exec.create ok",
            "exec.authorize ask",
            "approval.decide denied",
            "exec.finish denied",
        ]
    );
}

#[tokio::test]
async fn an_approval_that_nobody_answered_in_time_is_on_record() {
    let stack = Stack::shared();
    let tenant = TestTenant::shared(stack).await;
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let approval = session.approval_of(&exec).await;
    // Seven days later.
    let scope = format!("SET LOCAL app.tenant_id = '{}'", stack.tenant_id("initech").await);
    let later = format!("UPDATE approvals SET expires_at = now() WHERE id = '{approval}'");
    stack.psql(&format!("BEGIN; {scope}; {later}; COMMIT")).expect("the clock is put on");
    // A new version makes open questions be looked at.
    let text = tenant.owner.get("/v1/policy").await.expect(200)["text"].clone();
    tenant.put(text.as_str().expect("a text")).await;
    assert_eq!(session.wait(&exec).await["state"], "denied");
    let events = session.reviewer.audit_of(&session.id).await;
    let text = |event: &Value, key: &str| event[key].as_str().map(ToOwned::to_owned);
    let ends: Vec<_> = events
        .iter()
        .skip(events.len() - 2)
        .map(|event| [text(event, "action"), text(event, "outcome")].map(Option::unwrap_or_default))
        .collect();
    assert_eq!(ends, [["approval.expire", "expired"], ["exec.finish", "denied"]]);
}

#[tokio::test]
async fn a_time_divides_the_log_where_it_was() {
    let session = Stack::shared().session().await;
    session.run("true").await;
    let events = session.reviewer.audit_of(&session.id).await;
    let middle = &events[2];
    let time = middle["time"].as_str().expect("a time");
    let list = async |filter: &str| {
        let path = format!("/v1/audit/events?limit=200&{filter}={time}&session_id={}", session.id);
        let page = session.reviewer.get(&path).await.expect(200);
        page["items"].as_array().expect("a list").clone()
    };
    assert_eq!(list("since").await, events[2..]);
    assert_eq!(list("until").await, events[..2]);
    let path = format!("/v1/audit/events?limit=1&since={time}");
    assert_eq!(session.reviewer.get(&path).await.expect(200)["items"][0], *middle);
    let path = "/v1/audit/events?limit=1&since=2999-01-01T00:00:00Z";
    assert_eq!(session.reviewer.get(path).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn the_chain_has_no_gap() {
    let stack = Stack::shared();
    let session = stack.session().await;
    session.run("true").await;
    let mut after = 0;
    loop {
        let path = format!("/v1/audit/events?limit=200&after={after}");
        let page = stack.reviewer("acme").get(&path).await.expect(200);
        let items = page["items"].as_array().cloned().unwrap_or_default();
        if items.is_empty() {
            break;
        }
        for event in items {
            after += 1;
            assert_eq!(event["seq"], after);
        }
    }
    assert!(after > 3);
}

#[tokio::test]
async fn the_service_role_cannot_change_the_log() {
    let stack = Stack::shared();
    for sql in [
        "UPDATE audit_events SET outcome = 'ok'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "INSERT INTO audit_events (chain, seq, time_us, role, action, object, outcome,
             detail_sha256, hash) VALUES ('system', 0, 1, 'x', 'x', 'x', 'ok', '', '')",
        "UPDATE audit_heads SET seq = 0",
        "INSERT INTO audit_heads (chain, seq, hash) VALUES ('x', 0, '')",
        "DELETE FROM audit_heads",
        "UPDATE audit_terms SET places = '{}'",
        "DELETE FROM audit_blocks",
    ] {
        let scope = "SELECT set_config('app.tenant_id', 'system', true)";
        let refused = stack.psql(&format!("BEGIN; {scope}; {sql}; COMMIT")).expect_err(sql);
        let denied = refused.contains("permission denied") || refused.contains("must be owner");
        assert!(denied, "{sql}: {refused}");
    }
}

#[tokio::test]
async fn where_a_sandbox_is_placed_and_moved_is_on_record_once() {
    let stack = Stack::shared();
    let tenant = TestTenant::create(stack, "placing").await;
    let session = tenant.session().await;
    let looked = format!("/v1/sessions/{}/files/a?kind=stat", session.id);
    // Nobody answers for the executor, and it is chosen all the same.
    for _ in 0..2 {
        assert_eq!(session.agent.get(&looked).await.status, 503);
    }
    let id = stack.tenant_id(&format!("placing-{}", std::process::id())).await;
    let long_ago = "UPDATE executors SET last_seen_at = now() - interval '1 hour'";
    let scope = format!("SET LOCAL app.tenant_id = '{id}'");
    stack.psql(&format!("BEGIN; {scope}; {long_ago}; COMMIT")).expect("changes");
    let body = json!({ "name": "another", "role": "executor" });
    let token = tenant.owner.post("/v1/tokens", body).await.expect(201);
    let body = json!({
        "executor_id": format!("exr_{:032x}", 7), "version": "0", "host": "elsewhere",
        "image_digest": "sha256:1",
    });
    stack.caller(token["token"].as_str()).post("/v1/executors", body).await.expect(200);
    assert_eq!(session.agent.get(&looked).await.status, 503);
    let events = session.reviewer.audit_of(&session.id).await;
    let of = |action: &str| -> Vec<&Value> {
        events.iter().filter(|it| it["action"] == action).map(|it| &it["detail"]).collect()
    };
    let (placed, moved) = (of("sandbox.place"), of("sandbox.move"));
    assert_eq!((placed.len(), moved.len()), (1, 1), "{events:?}");
    assert_eq!(placed[0]["image_digest"], "sha256:0");
    assert_eq!(moved[0]["from_executor_id"], placed[0]["executor_id"]);
    assert_eq!(moved[0]["executor_id"], format!("exr_{:032x}", 7));
}
