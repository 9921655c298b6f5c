//! Approvals as rules want them: for the session, by more than one, and shown with all that counts.

use serde_json::{Value, json};
use tests::{Stack, TestSession, TestTenant};

async fn decide(session: &TestSession, id: &str, scope: &str) -> Value {
    let path = format!("/v1/approvals/{id}/decision");
    let body = json!({ "decision": "approve", "scope": scope });
    session.reviewer.post(&path, body).await.expect(200)
}

/// Whether an exec that was just submitted asks.
async fn asks(session: &TestSession, body: Value) -> bool {
    let exec = session.submit(body).await;
    let exec = session.wait_until(&exec, |exec| !exec["decision"].is_null()).await;
    exec["approval_id"].is_string()
}

#[tokio::test]
async fn an_answer_for_the_session_holds_for_the_same_command() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let exec = session.submit(json!({ "command": "touch 'a'" })).await;
    let id = session.approval_of(&exec).await;
    let approval = decide(&session, &id, "session").await;
    assert_eq!(approval["scope"], "session");
    assert_eq!(session.wait(&exec).await["state"], "exited");

    let again = session.run("touch  a").await;
    assert_eq!(again["state"], "exited", "{again}");
    let who = again["decision"]["decided_by"].as_str().expect("a name");
    assert!(who.contains("reviewer") && who.contains(&id), "{who}");

    for other in [
        json!({ "command": "touch b" }),
        json!({ "command": "touch a; touch b" }),
        json!({ "command": "touch a", "cwd": "/tmp" }),
        json!({ "command": "touch a", "env": { "A": "b" } }),
        json!({ "command": "touch a", "stdin": "x" }),
    ] {
        assert!(asks(&session, other.clone()).await, "{other}");
    }
    assert!(asks(&stack.session().await, json!({ "command": "touch a" })).await);
}

#[tokio::test]
async fn an_answer_for_the_session_reaches_what_waits_already() {
    let session = Stack::shared().session().await;
    let first = session.submit(json!({ "command": "touch a" })).await;
    let second = session.submit(json!({ "command": "touch a" })).await;
    let id = session.approval_of(&first).await;
    let other = session.approval_of(&second).await;
    decide(&session, &id, "session").await;
    assert_eq!(session.wait(&first).await["state"], "exited");
    assert_eq!(session.wait(&second).await["state"], "exited");
    let other = session.reviewer.get(&format!("/v1/approvals/{other}")).await.expect(200);
    assert_eq!(other["state"], "approved");
}

#[tokio::test]
async fn an_answer_for_the_session_ends_with_the_rule_that_asked() {
    let tenant = TestTenant::shared(Stack::shared()).await;
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "touch a" })).await;
    decide(&session, &session.approval_of(&exec).await, "session").await;
    session.wait(&exec).await;
    let two = r#"@id("two") @approvers("2") @reason("two people")
        forbid (principal, action == Action::"AutoApprove", resource);"#;
    tenant.put(two).await;
    assert!(asks(&session, json!({ "command": "touch a" })).await);
}

#[tokio::test]
async fn what_may_differ_the_next_time_is_approved_once() {
    let session = Stack::shared().session().await;
    let exec = session.submit(json!({ "command": "bash", "stdin": "echo a" })).await;
    let id = session.approval_of(&exec).await;
    let path = format!("/v1/approvals/{id}/decision");
    let body = json!({ "decision": "approve", "scope": "session" });
    let refused = session.reviewer.post(&path, body).await;
    assert_eq!((refused.status, refused.code()), (422, "scope_not_possible"));
    decide(&session, &id, "once").await;
    assert_eq!(session.wait(&exec).await["stdout"]["head"], "a\n");
}

#[tokio::test]
async fn a_rule_gets_as_many_people_as_it_asks_for() {
    let stack = Stack::shared();
    let tenant = TestTenant::shared(stack).await;
    let two = r#"@id("two") @approvers("2") @approver_role("owner") @reason("two people")
        forbid (principal, action == Action::"AutoApprove", resource);"#;
    tenant.put(two).await;
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "touch a" })).await;
    let id = session.approval_of(&exec).await;
    let path = format!("/v1/approvals/{id}/decision");
    let yes = json!({ "decision": "approve" });

    let voted = session.reviewer.post(&path, yes.clone()).await.expect(200);
    assert_eq!(voted["state"], "pending");
    assert_eq!(voted["votes"][0]["role"], "reviewer");
    assert_eq!(voted["approvers"], json!({ "count": 2, "roles": ["owner"] }));
    let event = session.event("approval.voted").await;
    assert_eq!((&event["approval_id"], &event["votes"]), (&json!(id), &json!(1)), "{event}");
    assert_eq!(event["approvers"]["count"], 2);
    let twice = session.reviewer.post(&path, yes.clone()).await;
    assert_eq!((twice.status, twice.code()), (409, "already_voted"));
    let other = tenant.another(stack, "reviewer").await;
    assert_eq!(other.post(&path, yes.clone()).await.expect(200)["state"], "pending");
    let asker = session.agent.post(&path, yes.clone()).await;
    assert_eq!(asker.status, 403);
    let settled = tenant.owner.post(&path, yes.clone()).await.expect(200);
    assert_eq!(settled["state"], "approved");
    assert_eq!(other.post(&path, yes).await.code(), "approval_settled");
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "exited", "{exec}");
    let who = exec["decision"]["decided_by"].as_str().expect("names");
    assert!(who.contains("(reviewer)") && who.contains("(owner)"), "{who}");
    let events = tenant.owner.audit_of(&session.id).await;
    let count = |action| events.iter().filter(|event| event["action"] == action).count();
    assert_eq!((count("approval.vote"), count("approval.decide")), (2, 1));
}

#[tokio::test]
async fn answers_that_suffice_by_now_release_and_say_whose_they_were() {
    let stack = Stack::shared();
    let tenant = TestTenant::shared(stack).await;
    let rule = |count: &str| {
        format!(
            r#"@id("people") @approvers("{count}") @reason("people")
               forbid (principal, action == Action::"AutoApprove", resource);"#
        )
    };
    tenant.put(&rule("2")).await;
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "touch a" })).await;
    let id = session.approval_of(&exec).await;
    let yes = json!({ "decision": "approve" });
    let path = format!("/v1/approvals/{id}/decision");
    assert_eq!(session.reviewer.post(&path, yes).await.expect(200)["state"], "pending");
    tenant.put(&rule("1")).await;
    assert_eq!(session.wait(&exec).await["state"], "exited");
    let events = tenant.owner.audit_of(&session.id).await;
    let of = |action: &str, outcome: &str| {
        let mut found = events.iter().filter(|e| e["action"] == action && e["outcome"] == outcome);
        (found.next().cloned().unwrap_or_default(), found.count())
    };
    let vote = events.iter().find(|e| e["action"] == "approval.vote").expect("a vote");
    let (settled, more) = of("approval.reconsider", "approved");
    assert_eq!((&settled["object"], more), (&json!(id), 0));
    let (allowed, more) = of("exec.authorize", "allow");
    assert_eq!((&allowed["decision"]["approver"], more), (&vote["token_id"], 0));
    assert!(vote["token_id"].is_string(), "{events:?}");
}

#[tokio::test]
async fn what_was_approved_before_needs_the_people_of_today() {
    let stack = Stack::shared();
    let tenant = TestTenant::shared(stack).await;
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "touch a" })).await;
    let approved = session.approval_of(&exec).await;
    let other = session.submit(json!({ "command": "touch b" })).await;
    let waiting = session.approval_of(&other).await;
    // A reviewer's yes that is on record and was not released yet: its hint is still on the way.
    let sql = format!(
        "BEGIN;
         SELECT set_config('app.tenant_id', 'system', true);
         SELECT set_config('app.tenant_id', id, true) FROM tenants WHERE name = 'initech';
         INSERT INTO approval_votes (tenant_id, approval_id, token_id, actor, role, scope)
         SELECT tenant_id, id, 'tok_x', 'Ada (reviewer)', 'reviewer', 'once'
         FROM approvals WHERE id = '{approved}';
         UPDATE approvals SET state = 'approved', decided_by = 'Ada (reviewer)', decided_at = now()
         WHERE id = '{approved}';
         COMMIT"
    );
    stack.psql(&sql).expect("approved");
    let two = r#"@id("two") @approvers("2") @reason("two people")
        forbid (principal, action == Action::"AutoApprove", resource);"#;
    tenant.put(two).await;
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "denied", "{exec}");
    let why = exec["error"]["message"].as_str().expect("a reason");
    assert!(why.contains("two people") && why.contains("submit it again"), "{why}");
    let other = session.reviewer.get(&format!("/v1/approvals/{waiting}")).await.expect(200);
    assert_eq!((&other["state"], &other["approvers"]["count"]), (&json!("pending"), &json!(2)));
}

#[tokio::test]
async fn what_nobody_answers_in_time_is_denied_whatever_policy_says_by_then() {
    let stack = Stack::shared();
    let tenant = TestTenant::shared(stack).await;
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "touch a" })).await;
    let id = session.approval_of(&exec).await;
    let sql = format!(
        "BEGIN;
         SELECT set_config('app.tenant_id', 'system', true);
         SELECT set_config('app.tenant_id', id, true) FROM tenants WHERE name = 'initech';
         UPDATE approvals SET expires_at = now() - interval '1 second' WHERE id = '{id}';
         COMMIT"
    );
    stack.psql(&sql).expect("a week has passed");
    let path = format!("/v1/approvals/{id}/decision");
    let late = session.reviewer.post(&path, json!({ "decision": "approve" })).await;
    assert_eq!((late.status, late.code()), (409, "approval_settled"));
    assert!(late.text.contains("expired"), "{}", late.text);
    // The timer of the workflow would say the same: look again.
    let all = r#"@id("all") permit (principal, action == Action::"AutoApprove", resource)
        when { context.understood };"#;
    tenant.put(all).await;
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "denied", "{exec}");
    assert!(exec["error"]["message"].as_str().is_some_and(|why| why.contains("in time")));
    let approval = session.reviewer.get(&format!("/v1/approvals/{id}")).await.expect(200);
    assert_eq!(approval["state"], "expired");
}

#[tokio::test]
async fn one_no_is_enough() {
    let stack = Stack::shared();
    let tenant = TestTenant::shared(stack).await;
    tenant
        .put(r#"@id("two") @approvers("2") forbid (principal, action == Action::"AutoApprove", resource);"#)
        .await;
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "touch a" })).await;
    let id = session.approval_of(&exec).await;
    decide(&session, &id, "once").await;
    let other = tenant.another(stack, "reviewer").await;
    let body = json!({ "decision": "deny", "reason": "not so fast" });
    other.post(&format!("/v1/approvals/{id}/decision"), body).await.expect(200);
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "denied");
    assert!(exec["error"]["message"].as_str().is_some_and(|why| why.contains("not so fast")));
}

#[tokio::test]
async fn an_approval_shows_all_that_counts() {
    let session = Stack::shared().session().await;
    let body = json!({ "command": "cat a && touch b", "env": { "A": "b" }, "timeout_ms": 5000 });
    let exec = session.submit(body).await;
    let id = session.approval_of(&exec).await;
    let shown = session.reviewer.get(&format!("/v1/approvals/{id}")).await.expect(200);
    assert_eq!(shown["command"], "cat a && touch b");
    assert_eq!((&shown["cwd"], &shown["timeout_ms"]), (&json!("/work"), &json!(5000)));
    assert_eq!((&shown["kind"], &shown["env_names"]), (&json!("shell"), &json!(["A"])));
    assert_eq!(shown["facts"][1]["program"], "touch");
    assert_eq!(shown["approvers"]["count"], 1);
    assert_eq!((&shown["policy_version"], &shown["votes"]), (&json!(0), &json!([])));
    assert_eq!(shown["may_hold_for_session"], false);
    assert!(shown["rules"].as_array().is_some_and(|rules| !rules.is_empty()));
    assert!(shown["image_digest"].as_str().is_some_and(|image| !image.is_empty()), "{shown}");
}
