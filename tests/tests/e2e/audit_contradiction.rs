//! Whoever rules the database can change what is in it. What contradicts the signatures is never
//! signed again, and nobody exports a file that would verify.

use serde_json::{Value, json};
use tests::{Caller, Stack};

/// Changes what no role of ours can: triggers are off.
fn tamper(stack: &Stack, sql: &str) {
    let sql = format!("SET session_replication_role = replica; {sql}");
    stack.psql_as("superuser", &sql).expect("a superuser may");
}

async fn export(owner: &Caller) -> (u16, String) {
    let answer = owner.get("/v1/audit/export").await;
    let code = if answer.status == 200 { String::new() } else { answer.code().to_owned() };
    (answer.status, code)
}

/// Makes the chain longer, as work goes on.
async fn grow(owner: &Caller) {
    let token = json!({ "name": "more", "role": "viewer" });
    owner.post("/v1/tokens", token).await.expect(201);
}

#[tokio::test]
async fn what_contradicts_a_signature_is_not_signed_again() {
    let stack = Stack::start("rewritten");
    let (owner, other) = (stack.owner("acme"), stack.owner("globex"));
    let acme = stack.tenant_id("acme").await;
    grow(&owner).await;
    assert_eq!(export(&owner).await.0, 200);
    assert_eq!(export(&other).await.0, 200);
    let signed = async || {
        let proof = owner.call(reqwest::Method::POST, "/v1/audit/checkpoints", None).await;
        let proof: Value = proof.expect(201);
        format!("WHERE chain = '{acme}' AND seq = {}", proof["size"])
    };
    let refused = (409, "audit_contradiction".to_owned());

    // All hashes rewritten up to the newest: the last signed event has another one. A longer chain is
    // no excuse, nor that it is another tenant's.
    let event = signed().await;
    tamper(&stack, &format!("CREATE TABLE kept AS SELECT * FROM audit_events {event}"));
    tamper(&stack, &format!("UPDATE audit_events SET hash = sha256(hash) {event}"));
    grow(&owner).await;
    assert_eq!(export(&owner).await, refused);
    assert_eq!(export(&other).await, refused);
    let said = other.get("/v1/audit/export").await.text;
    assert!(!said.contains(&acme) && !said.contains("jsonl"), "{said}");
    tamper(&stack, &format!("UPDATE audit_events SET hash = (SELECT hash FROM kept) {event}"));
    assert_eq!(export(&owner).await.0, 200);

    // It is gone.
    let event = signed().await;
    tamper(&stack, &format!("CREATE TABLE gone AS SELECT * FROM audit_events {event}"));
    tamper(&stack, &format!("DELETE FROM audit_events {event}"));
    grow(&owner).await;
    assert_eq!(export(&owner).await, refused);
    tamper(&stack, "INSERT INTO audit_events SELECT * FROM gone");
    assert_eq!(export(&owner).await.0, 200);

    // What was signed is forgotten, of one chain, or changed.
    let proofs = format!("audit_checkpoint_proofs WHERE chain = '{acme}'");
    tamper(&stack, &format!("CREATE TABLE proofs AS SELECT * FROM {proofs}"));
    tamper(&stack, &format!("DELETE FROM {proofs}"));
    assert_eq!(export(&other).await, refused);
    tamper(
        &stack,
        "INSERT INTO audit_checkpoint_proofs
         SELECT chain, number, size, sha256(head), leaf_index, path FROM proofs",
    );
    assert_eq!(export(&other).await, refused);
    tamper(&stack, &format!("DELETE FROM {proofs}"));
    tamper(&stack, "INSERT INTO audit_checkpoint_proofs SELECT * FROM proofs");
    assert_eq!(export(&other).await.0, 200);

    // A chain vanishes.
    let head = format!("audit_heads WHERE chain = '{acme}'");
    tamper(&stack, &format!("CREATE TABLE head AS SELECT * FROM {head}"));
    tamper(&stack, &format!("DELETE FROM {head}"));
    assert_eq!(export(&other).await, refused);
    tamper(&stack, "INSERT INTO audit_heads SELECT * FROM head");
    assert_eq!(export(&owner).await.0, 200);
}
