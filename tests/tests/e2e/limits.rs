//! What callers and tenants may ask for, and what they are told when it is too much.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Replica, Stack};

#[tokio::test]
async fn unknown_query_parameters_are_refused_on_every_operation() {
    let stack = Stack::shared();
    let api = stack.anonymous().get("/openapi.json").await.expect(200);
    let owner = stack.owner("acme");
    for (path, item) in api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let random = "ses_0123456789abcdef0123456789abcdef";
            let path = path.replace("{id}", random).replace("{path}", "x");
            let answer = owner.call(method, &format!("{path}?unknown_one=1"), None).await;
            let id = &operation["operationId"];
            assert_eq!((answer.status, answer.code()), (422, "invalid_query"), "{id}");
        }
    }
}

#[tokio::test]
async fn every_list_comes_in_pages() {
    let stack = Stack::shared();
    let owner = stack.owner("acme");
    for round in 0..3 {
        let body = json!({ "name": format!("page {round}"), "role": "viewer" });
        owner.post("/v1/tokens", body).await.expect(201);
    }
    let platform = stack.platform();
    for (caller, path) in [(&owner, "/v1/tokens"), (&platform, "/v1/tenants")] {
        let all = caller.get(&format!("{path}?limit=200")).await.expect(200);
        let all = all["items"].as_array().expect("items").clone();
        let (mut paged, mut query) = (Vec::new(), "?limit=1".to_owned());
        while paged.len() < 100 {
            let page = caller.get(&format!("{path}{query}")).await.expect(200);
            paged.extend(page["items"].as_array().expect("items").clone());
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            query = format!("?limit=1&cursor={cursor}");
        }
        let ids = |items: &[Value]| -> Vec<Value> {
            let id = |item: &Value| item.get("token_id").or(item.get("tenant_id")).cloned();
            items.iter().filter_map(id).collect()
        };
        let count = paged.len().min(all.len());
        assert_eq!(ids(&paged)[..count], ids(&all)[..count], "{path}");
        assert_eq!(caller.get(&format!("{path}?limit=0")).await.code(), "invalid_limit");
        assert_eq!(caller.get(&format!("{path}?cursor=x")).await.code(), "invalid_cursor");
    }
}

#[tokio::test]
async fn a_tenants_rate_counts_all_of_its_tokens() {
    let stack = Stack::shared();
    let env = [("BULKHEAD_TENANT_REQUESTS_PER_MINUTE", "5")];
    let replica = Replica::start(stack, &env).await;
    let tenant = stack.tenant("rated").await;
    let mut codes = Vec::new();
    for round in 0..8 {
        let made = tenant.post("/v1/tokens", json!({ "name": "r", "role": "viewer" })).await;
        let made = made.expect(201);
        let answer = replica.caller(made["token"].as_str()).get("/v1/usage").await;
        codes.push((round, answer.status));
    }
    assert!(codes.iter().any(|(_, status)| *status == 429), "{codes:?}");
    let others = stack.dev().tenants["globex"].viewer_token.clone();
    assert_eq!(replica.caller(Some(&others)).get("/v1/usage").await.status, 200);
}

#[tokio::test]
async fn quotas_hold_when_many_ask_at_once() {
    let stack = Stack::shared();
    let owner = stack.tenant("quotas").await;
    let quota = json!({ "sessions": 3, "concurrent_execs": 2, "memory_bytes": 1_u64 << 40 });
    stack.set_quota("quotas", quota).await;
    let make = || owner.post("/v1/sessions", json!({}));
    let answers = futures::future::join_all((0..8).map(|_| make())).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 3, "exactly as many as there may be");
    let refused = answers.iter().find(|answer| answer.status != 201).expect("five of them");
    assert_eq!((refused.status, refused.code()), (429, "quota_exceeded"));
    assert!(refused.body["detail"].as_str().is_some_and(|text| text.contains("3 of 3")));
    assert!(refused.headers.contains_key("retry-after"));

    // Without an executor they wait: two are open, more are refused.
    let session = answers.iter().find(|answer| answer.status == 201).expect("one");
    let path = format!("/v1/sessions/{}/execs", session.body["session_id"].as_str().expect("id"));
    let post = || owner.post(&path, json!({ "command": "true" }));
    let answers = futures::future::join_all((0..6).map(|_| post())).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 2, "{:?}", answers.iter().map(|answer| &answer.text).collect::<Vec<_>>());
    let usage = owner.get("/v1/usage").await.expect(200);
    assert_eq!((&usage["used"]["sessions"], &usage["quota"]["sessions"]), (&json!(3), &json!(3)));
    assert_eq!(usage["used"]["concurrent_execs"], 2);
    assert_eq!(usage["used"]["memory_bytes"], 3 * (512_u64 << 20));
}

#[tokio::test]
async fn sums_of_memory_and_processor_time_have_a_quota() {
    let stack = Stack::shared();
    let owner = stack.tenant("sums").await;
    stack.set_quota("sums", json!({ "memory_bytes": 1 << 30, "cpu_millis": 1500 })).await;
    let with =
        |memory: u64, cpu: u64| json!({ "limits": { "memory_bytes": memory, "cpu_millis": cpu } });
    owner.post("/v1/sessions", with(768 << 20, 1000)).await.expect(201);
    let answer = owner.post("/v1/sessions", with(512 << 20, 100)).await;
    assert_eq!(answer.code(), "quota_exceeded");
    assert!(answer.text.contains("memory_bytes"), "{}", answer.text);
    let answer = owner.post("/v1/sessions", with(128 << 20, 1000)).await;
    assert!(answer.text.contains("cpu_millis"), "{}", answer.text);
    owner.post("/v1/sessions", with(256 << 20, 500)).await.expect(201);
}

#[tokio::test]
async fn what_runs_is_counted_and_a_used_up_day_takes_no_more() {
    let stack = Stack::shared();
    let before = stack.owner("acme").get("/v1/usage").await.expect(200);
    let session = stack.session().await;
    session.run("echo 0123456789").await;
    let after = stack.owner("acme").get("/v1/usage").await.expect(200);
    let output = |usage: &Value| usage["used"]["output_bytes"].as_i64().expect("a number");
    assert!(output(&after) >= output(&before) + 11, "{before} {after}");

    let owner = stack.tenant("spent").await;
    stack.set_quota("spent", json!({ "exec_seconds_per_day": 0 })).await;
    let session = owner.post("/v1/sessions", json!({})).await.expect(201);
    let path = format!("/v1/sessions/{}/execs", session["session_id"].as_str().expect("an id"));
    let answer = owner.post(&path, json!({ "command": "true" })).await;
    assert_eq!((answer.status, answer.code()), (429, "quota_exceeded"));
    assert!(answer.text.contains("exec_seconds_per_day"), "{}", answer.text);
}

#[tokio::test]
async fn a_quota_is_the_platforms_to_set() {
    let stack = Stack::shared();
    let owner = stack.tenant("set").await;
    let id = stack.tenant_id("set").await;
    let path = format!("/v1/tenants/{id}/quota");
    let put = |caller: tests::Caller, body: Value| {
        let path = path.clone();
        async move { caller.call(Method::PUT, &path, Some(body)).await }
    };
    assert_eq!(put(owner, json!({})).await.status, 403);
    let answer = put(stack.platform(), json!({ "sessions": -1 })).await;
    assert_eq!((answer.status, answer.code()), (422, "invalid_quota"));
    let answer = put(stack.platform(), json!({ "session": 1 })).await;
    assert_eq!((answer.status, answer.code()), (422, "invalid_body"));
}
