//! `Idempotency-Key`: the same request sent twice runs once.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Caller, Replica, Stack, TestSession};

async fn post(session: &TestSession, key: &str, body: Value) -> Answer {
    let path = format!("/v1/sessions/{}/execs", session.id);
    session.agent.call_with(Method::POST, &path, Some(body), &[("idempotency-key", key)]).await
}

#[tokio::test]
async fn a_repeat_finds_the_first() {
    let session = Stack::shared().session().await;
    let key = format!("repeat-{}", session.id);
    let body = json!({ "command": "echo once", "wait_ms": 20_000 });
    let (first, second) =
        tokio::join!(post(&session, &key, body.clone()), post(&session, &key, body.clone()));
    // While one is being written down, the other is told to come back.
    let (first, second) = if first.status == 201 { (first, second) } else { (second, first) };
    let first = first.expect(201);
    match second.status {
        409 => assert_eq!(second.code(), "idempotency_key_in_use"),
        _ => assert_eq!(first["exec_id"], second.expect(201)["exec_id"]),
    }
    let again = post(&session, &key, body).await.expect(201);
    assert_eq!(first["exec_id"], again["exec_id"]);
    let path = format!("/v1/sessions/{}/execs", session.id);
    let listed = session.agent.get(&path).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused() {
    let session = Stack::shared().session().await;
    let key = format!("other-{}", session.id);
    post(&session, &key, json!({ "command": "echo a" })).await.expect(201);
    let answer = post(&session, &key, json!({ "command": "echo b" })).await;
    assert_eq!((answer.status, answer.code()), (422, "idempotency_key_reused"));
}

/// A request that can be made at several control planes under one key.
struct Keyed {
    path: String,
    body: Value,
    other: Value,
    key: String,
    status: u16,
}

impl Keyed {
    async fn send(&self, caller: &Caller, body: &Value) -> Answer {
        let headers = [("idempotency-key", self.key.as_str())];
        caller.call_with(Method::POST, &self.path, Some(body.clone()), &headers).await
    }

    /// Sent at once at both, then again at each, then with another body.
    async fn check(&self, here: &Caller, there: &Caller) -> Value {
        let sent = [here, there, here, there].map(|caller| self.send(caller, &self.body));
        let answers = futures::future::join_all(sent).await;
        let busy =
            |answer: &Answer| (answer.status, answer.code()) == (409, "idempotency_key_in_use");
        let (refused, made): (Vec<_>, Vec<_>) = answers.into_iter().partition(busy);
        let first = made.into_iter().map(|answer| answer.expect(self.status)).collect::<Vec<_>>();
        assert!(!first.is_empty(), "{}: all of {} were refused", self.path, refused.len());
        for caller in [here, there] {
            let again = self.send(caller, &self.body).await.expect(self.status);
            assert!(first.iter().all(|first| *first == again), "{}: {first:?} {again}", self.path);
            let other = self.send(caller, &self.other).await;
            assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"), "{other:?}");
        }
        first[0].clone()
    }
}

/// What every `POST` that takes a key promises, with these two control planes.
async fn keys_are_kept(stack: &Stack, there: impl Fn(Option<&str>) -> Caller, name: &str) {
    let here = |token: &str| stack.caller(Some(token));
    let dev = stack.dev();
    let (owner, platform) = (&dev.tenants["acme"].owner_token, &dev.platform_token);
    let keyed = |path: &str, body: Value, other: Value, status| Keyed {
        path: path.into(),
        body,
        other,
        key: format!("{name} {path}"),
        status,
    };

    let token = |name: &str| json!({ "name": name, "role": "viewer" });
    let tokens = keyed("/v1/tokens", token("kept"), token("other"), 201);
    let made = tokens.check(&here(owner), &there(Some(owner))).await;
    // The very secret, and it is good.
    let secret = made["token"].as_str().expect("a token");
    assert_eq!(here(secret).get("/v1/usage").await.status, 200);
    let id = made["token_id"].as_str().expect("an id");
    assert_eq!(stack.owner("acme").delete(&format!("/v1/tokens/{id}")).await.status, 204);

    let tenant = |suffix: &str| json!({ "name": format!("kept-{name}{suffix}") });
    let tenants = keyed("/v1/tenants", tenant(""), tenant("-other"), 201);
    let made = tenants.check(&here(platform), &there(Some(platform))).await;
    let secret = made["owner_token"]["token"].as_str().expect("a token");
    assert_eq!(here(secret).get("/v1/tokens").await.status, 200);
    // The platform's other keys are another matter.
    let elsewhere = Keyed { key: format!("{name} another"), ..tenants };
    let answer = elsewhere.send(&here(platform), &elsewhere.body).await;
    assert_eq!((answer.status, answer.code()), (409, "tenant_exists"));

    let events = ["session.closed"];
    let hook = |path: &str| json!({ "url": format!("https://1.1.1.1/{path}"), "events": events });
    let webhooks = keyed("/v1/webhooks", hook("a"), hook("b"), 201);
    let made = webhooks.check(&here(owner), &there(Some(owner))).await;
    assert!(made["secret"].as_str().is_some_and(|secret| secret.starts_with("whs_")), "{made}");
    let id = made["webhook_id"].as_str().expect("an id");
    assert_eq!(stack.owner("acme").delete(&format!("/v1/webhooks/{id}")).await.status, 204);

    let session = stack.session().await;
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let approval = session.approval_of(&exec).await;
    let path = format!("/v1/approvals/{approval}/decision");
    let decision =
        keyed(&path, json!({ "decision": "deny" }), json!({ "decision": "approve" }), 200);
    let reviewer = &dev.tenants["acme"].reviewer_token;
    let decided = decision.check(&here(reviewer), &there(Some(reviewer))).await;
    assert_eq!(decided["state"], "denied");
    // Without the key it is what it always was: settled.
    let again = here(reviewer).post(&path, decision.body.clone()).await;
    assert_eq!((again.status, again.code()), (409, "approval_settled"));
    let audit = session.reviewer.audit_of(&session.id).await;
    let decisions = audit.iter().filter(|event| event["action"] == "approval.decide").count();
    assert_eq!(decisions, 1, "one effect");
}

#[tokio::test]
async fn whatever_is_made_under_a_key_is_made_once_and_answered_alike() {
    let stack = Stack::shared();
    keys_are_kept(stack, |token| stack.caller(token), "one").await;
}

#[tokio::test]
async fn two_control_planes_know_each_others_keys() {
    let stack = Stack::shared();
    let other = Replica::start(stack, &[]).await;
    keys_are_kept(stack, |token| other.caller(token), "two").await;
}

#[tokio::test]
async fn a_key_is_its_tokens_own_and_keeps_no_secret_in_plain_text() {
    let stack = Stack::shared();
    let body = json!({ "name": "sealed", "role": "viewer" });
    let headers = [("idempotency-key", "sealed")];
    let make = |caller: Caller| {
        let body = body.clone();
        async move { caller.call_with(Method::POST, "/v1/tokens", Some(body), &headers).await }
    };
    let made = make(stack.owner("acme")).await.expect(201);
    let others = make(stack.owner("globex")).await.expect(201);
    assert_ne!(made["token_id"], others["token_id"]);
    let tenant = stack.tenant_id("acme").await;
    let kept = stack
        .psql(&format!(
            "BEGIN; SELECT set_config('app.tenant_id', '{tenant}', true);
             SELECT encode(answer, 'escape') FROM idempotency_keys WHERE key = 'sealed'; COMMIT"
        ))
        .expect("is there");
    assert!(kept.len() > 100, "{kept}");
    let secret = made["token"].as_str().expect("a token");
    let id = made["token_id"].as_str().expect("an id");
    for part in secret.split('.').chain([id, "sealed", "viewer"]) {
        assert!(!kept.contains(part), "{part}");
    }
    for bad in ["", &"x".repeat(256)] {
        let headers = [("idempotency-key", bad)];
        let owner = stack.owner("acme");
        let answer =
            owner.call_with(Method::POST, "/v1/tokens", Some(body.clone()), &headers).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_idempotency_key"));
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let owner = stack.owner("acme");
    let answer = owner.call_with(Method::POST, "/v1/tokens", Some(body.clone()), &twice).await;
    assert_eq!((answer.status, answer.code()), (422, "invalid_idempotency_key"));
}
