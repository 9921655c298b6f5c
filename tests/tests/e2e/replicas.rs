//! Two control planes on one database: what one is told, the other knows.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tests::{Replica, Stack};

/// A fresh token, and its id.
async fn token(stack: &Stack, role: &str) -> (String, String) {
    let body = json!({ "name": "replicas", "role": role });
    let made = stack.owner("acme").post("/v1/tokens", body).await.expect(201);
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    (text("token"), text("token_id"))
}

/// The header of a token, which differs with the key that signed it only.
fn key_of(token: &str) -> String {
    token.split('.').next().expect("a header").to_owned()
}

#[tokio::test]
async fn what_one_revokes_the_other_refuses_within_five_seconds() {
    let stack = Stack::shared();
    let other = Replica::start(stack, &[]).await;
    let (secret, id) = token(stack, "viewer").await;
    let caller = other.caller(Some(&secret));
    assert_eq!(caller.get("/v1/sessions").await.status, 200);
    let path = format!("/v1/tokens/{id}");
    assert_eq!(stack.owner("acme").delete(&path).await.status, 204);
    let revoked_at = Instant::now();
    while caller.get("/v1/sessions?limit=1").await.status == 200 {
        assert!(revoked_at.elapsed() < Duration::from_secs(5), "still let in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(caller.get("/v1/sessions").await.code(), "unauthorized");
}

#[tokio::test]
async fn events_of_one_are_followed_at_the_other() {
    let stack = Stack::shared();
    let other = Replica::start(stack, &[]).await;
    let session = stack.session().await;
    let (secret, _) = token(stack, "viewer").await;
    let mut events = other.caller(Some(&secret)).0.events(&session.id, 0);
    session.run("echo across").await;
    let limit = Duration::from_secs(10);
    let mut seen = 0;
    let finished = async {
        loop {
            let event = events.next().await.expect("an event");
            seen += 1;
            assert_eq!(event.seq, seen, "no gap and no repeat");
            if event.kind == "exec.finished" {
                return;
            }
        }
    };
    tokio::time::timeout(limit, finished).await.expect("all of them come");
}

#[tokio::test]
async fn both_count_into_one_rate() {
    let stack = Stack::shared();
    let env = [("BULKHEAD_TOKEN_REQUESTS_PER_MINUTE", "40")];
    let (one, two) = (Replica::start(stack, &env).await, Replica::start(stack, &env).await);
    let (secret, _) = token(stack, "viewer").await;
    let callers = [one.caller(Some(&secret)), two.caller(Some(&secret))];
    // All of it within one minute, or the count would start anew in between.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let second = now.expect("after 1970").as_secs() % 60;
    if second > 40 {
        tokio::time::sleep(Duration::from_secs(61 - second)).await;
    }
    let mut let_in = 0;
    for round in 0..60 {
        let answer = callers[round % 2].get("/v1/usage").await;
        let header = |name: &str| {
            let value = answer.headers[name].to_str().expect("a text");
            value.parse::<u64>().expect("a number")
        };
        assert_eq!(header("ratelimit-limit"), 40);
        match answer.status {
            200 => let_in += 1,
            _ => {
                assert_eq!((answer.status, answer.code()), (429, "rate_limited"));
                assert_eq!(header("ratelimit-remaining"), 0);
                assert_eq!(header("retry-after"), header("ratelimit-reset"));
            }
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    // What arrives within a quarter of a second at each may be too many: about six here.
    assert!((40..=52).contains(&let_in), "{let_in} were let in");
}

#[tokio::test]
async fn a_key_that_was_used_at_one_is_known_at_the_other() {
    let stack = Stack::shared();
    let other = Replica::start(stack, &[]).await;
    let (secret, _) = token(stack, "agent").await;
    let make = async |caller: tests::Caller| {
        let body = Some(json!({ "name": "once" }));
        let headers = [("idempotency-key", "replicas")];
        caller.call_with(Method::POST, "/v1/sessions", body, &headers).await.expect(201)
    };
    let first = make(stack.caller(Some(&secret))).await;
    let second = make(other.caller(Some(&secret))).await;
    assert_eq!(first["session_id"], second["session_id"]);
}

#[tokio::test]
async fn a_token_of_a_new_key_is_good_at_both_and_an_old_one_too() {
    let stack = Stack::start("keys");
    let other = Replica::start(&stack, &[]).await;
    let owner = stack.owner("acme");
    let step = |step: &str| {
        let program = tests::bin_dir().join("bulkhead-control-plane");
        let status = std::process::Command::new(program)
            .args(["token-key", step])
            .env("BULKHEAD_KEY_DIR", stack.data_dir().join("keys"))
            .env("DATABASE_URL", &stack.dev().database_url)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{step}");
    };
    let known = async || other.caller(None).get("/.well-known/jwks.json").await.expect(200);
    let count = |keys: serde_json::Value| keys["keys"].as_array().map_or(0, Vec::len);
    assert_eq!(count(known().await), 2, "one for tokens, one for grants");
    step("prepare");
    let deadline = Instant::now() + Duration::from_secs(5);
    while count(known().await) != 3 {
        assert!(Instant::now() < deadline, "the next key is not known in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let old_key = key_of(&stack.dev().tenants["acme"].viewer_token);
    step("activate");
    // As soon as the process has noticed, tokens are signed with the new key.
    let made = loop {
        let body = json!({ "name": "new", "role": "viewer" });
        let made = owner.post("/v1/tokens", body).await.expect(201);
        if key_of(made["token"].as_str().expect("a token")) != old_key {
            break made;
        }
        assert!(Instant::now() < deadline + Duration::from_secs(5), "still the old key");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for caller in [stack.caller(made["token"].as_str()), other.caller(made["token"].as_str())] {
        assert_eq!(caller.get("/v1/sessions").await.status, 200);
    }
    let old = stack.dev().tenants["acme"].viewer_token.clone();
    assert_eq!(other.caller(Some(&old)).get("/v1/sessions").await.status, 200);
}
