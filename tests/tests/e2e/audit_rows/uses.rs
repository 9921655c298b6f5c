//! What execs and approvals are used for, each of which leaves other rows.

use reqwest::Method;
use serde_json::json;
use tests::{Answer, TestSession};

use super::{Log, id};

const TWO_PEOPLE: &str = r#"@id("two") @approvers("2") @reason("two people")
    forbid (principal, action == Action::"AutoApprove", resource);"#;

/// Another session in its place if what policy asks about is to be denied.
pub(super) async fn strict(session: TestSession, is_strict: bool) -> TestSession {
    if !is_strict {
        return session;
    }
    let settings = json!({ "approval_mode": "deny-asks" });
    let made = session.agent.post("/v1/sessions", settings).await.expect(201);
    TestSession { id: id(&made, "session_id"), ..session }
}

/// A new exec, which ends in one of the ways that there are.
pub(super) async fn exec(log: &mut Log<'_>, session: TestSession, variant: &str) -> Answer {
    let session = strict(session, variant == "denied").await;
    let body = match variant {
        "allowed" => json!({ "command": "true" }),
        "out of time" => json!({ "command": "sleep 999", "timeout_ms": 500 }),
        _ => json!({ "command": "touch asked" }),
    };
    log.mark().await;
    let path = format!("/v1/sessions/{}/execs", session.id);
    let answer = session.agent.post(&path, body).await;
    if variant == "asked and denied" {
        let approval = session.approval_of(&answer.body).await;
        session.decide(&approval, "deny", None).await;
    }
    session.wait(&answer.body).await;
    answer
}

/// A decision of a human about an exec that waits for it.
pub(super) async fn decide(log: &mut Log<'_>, session: &TestSession, variant: &str) -> Answer {
    let (owner, of_two) = (log.stack.owner("globex"), variant.ends_with("of two"));
    if of_two {
        let body = Some(json!({ "text": TWO_PEOPLE }));
        owner.call(Method::PUT, "/v1/policy", body).await.expect(200);
    }
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let path = format!("/v1/approvals/{}/decision", session.approval_of(&exec).await);
    let yes = json!({ "decision": "approve" });
    if variant == "last of two" {
        // What the first left open is settled, or another policy would be asked about it.
        let open = owner.get("/v1/approvals?state=pending").await.expect(200);
        for other in open["items"].as_array().expect("a list") {
            if other["exec_id"] != exec["exec_id"] {
                session.decide(&id(other, "approval_id"), "deny", None).await;
                // Its own session's events tell when it is over.
                let its = session.sibling(id(other, "session_id"));
                its.wait(other).await;
            }
        }
        owner.post(&path, yes.clone()).await.expect(200);
    }
    log.mark().await;
    let body = match variant {
        "deny" => json!({ "decision": "deny" }),
        "for the session" => json!({ "decision": "approve", "scope": "session" }),
        _ => yes,
    };
    let answer = session.reviewer.post(&path, body).await;
    if variant != "first of two" {
        session.wait(&exec).await;
    }
    answer
}
