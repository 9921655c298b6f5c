//! The platform's own chain, `system`: exported and verified like a tenant's, and nobody else's.

use serde_json::{Value, json};
use tests::Stack;

/// Exports as `arguments` say; gives the file's text.
fn export(stack: &Stack, name: &str, arguments: &[&str]) -> String {
    let file = stack.data_dir().join(name);
    let mut export = stack.cli(&["audit", "export", "--out"]);
    let output = export.arg(&file).args(arguments).output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    std::fs::read_to_string(file).expect("the export")
}

/// Verifies a text as an export, offline.
fn verify(stack: &Stack, name: &str, text: &str) -> (Option<i32>, Value) {
    let file = stack.data_dir().join(name);
    std::fs::write(&file, text).expect("it can be written");
    let mut verify = stack.cli(&["audit", "verify", "--json", "--from"]);
    verify.arg(&file).arg("--key").arg(stack.data_dir().join("audit.pub"));
    let output = verify.env("BULKHEAD_URL", "http://127.0.0.1:1").output().expect("it starts");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn events(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["event"].is_object()).map(|line| line["event"].clone()).collect()
}

#[tokio::test]
async fn the_platform_exports_its_own_chain_and_it_verifies() {
    let stack = Stack::shared();
    let name = format!("on-record-{}", std::process::id());
    let made = stack.platform().post("/v1/tenants", json!({ "name": name })).await.expect(201);
    let tenant = made["tenant_id"].as_str().expect("an id");
    let text = export(stack, "system.jsonl", &["--system"]);
    let (code, report) = verify(stack, "system.jsonl", &text);
    assert_eq!((code, &report["chain"]), (Some(0), &json!("system")), "{report}");
    let events = events(&text);
    assert!(events.iter().all(|event| event["chain"] == "system"));
    let of = |action: &str, object: &str| {
        let mut all = events.iter();
        all.any(|event| event["action"] == action && event["object"] == object)
    };
    assert!(of("tenant.create", tenant), "the tenant that was made");
    assert!(of("audit.export", "system"), "on record before its first byte");

    let changed = text.replacen("tenant.create", "tenant.delete", 1);
    assert_ne!(changed, text);
    let (code, report) = verify(stack, "system-changed.jsonl", &changed);
    assert_eq!((code, &report["ok"]), (Some(1), &json!(false)), "{report}");
}

#[tokio::test]
async fn nobody_reads_a_chain_that_is_not_his_own() {
    let stack = Stack::shared();
    let session = stack.session().await;
    // The platform sees no tenant's events, whatever it asks for.
    let path = format!("/v1/audit/events?session_id={}", session.id);
    let found = stack.platform().get(&path).await.expect(200);
    assert_eq!(found["items"], json!([]));
    let evidence = format!("/v1/sessions/{}/evidence", session.id);
    assert_eq!(stack.platform().get(&evidence).await.status, 403);
    let all = stack.platform().get("/v1/audit/events?limit=200").await.expect(200);
    let items = all["items"].as_array().expect("a list");
    let own = ["tenant.create", "tenant.quota", "token.create", "audit.export"];
    let foreign = items.iter().find(|item| !own.iter().any(|action| item["action"] == *action));
    assert_eq!(foreign, None);
    let created = items.iter().find(|item| item["action"] == "tenant.create");
    assert!(created.is_some_and(|item| item["role"] == "platform"), "{items:?}");
    // And a tenant's owner gets his own, with the same request.
    let text = export(stack, "not-system.jsonl", &["--tenant", "acme", "--as", "owner"]);
    assert!(events(&text).iter().all(|event| event["chain"] != "system"));
    let tenants = stack.owner("acme").get("/v1/audit/events?action=tenant.create").await;
    assert_eq!(tenants.expect(200)["items"], json!([]));
    // Reviewing and erasing stay with tenants.
    let review = json!({ "seq": 1, "verdict": "ok" });
    assert_eq!(stack.platform().post("/v1/audit/reviews", review).await.status, 403);
}
