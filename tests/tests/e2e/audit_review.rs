//! Reviews: what is drawn of what policy allows by itself, what waits, and what came of it.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Caller, Stack, TestSession, TestTenant};

async fn put_sampling(caller: &Caller, body: Value) -> tests::Answer {
    caller.call(Method::PUT, "/v1/audit/sampling", Some(body)).await
}

/// Submits a command and waits until it was decided about.
async fn decided(session: &TestSession, command: &str) -> Value {
    let exec = session.submit(json!({ "command": command })).await;
    session.wait_until(&exec, |exec| !exec["decision"].is_null()).await
}

fn commands(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("a list");
    items.iter().map(|item| item["command"].as_str().expect("a text")).collect()
}

#[tokio::test]
async fn what_is_drawn_waits_for_a_review_and_is_measured() {
    let stack = Stack::shared();
    let tenant = TestTenant::create(stack, "drawn").await;
    let session = tenant.session().await;
    decided(&session, "echo before any rule").await;
    let rules = json!({ "rules": [{ "id": "echoes", "one_in": 1, "program": "echo" }] });
    let put = put_sampling(&tenant.owner, rules.clone()).await.expect(200);
    assert_eq!((&put["version"], &put["rules"]), (&json!(1), &rules["rules"]));
    assert_eq!(tenant.reviewer.get("/v1/audit/sampling").await.expect(200), put);
    for command in ["echo one", "echo two", "true", "touch asked"] {
        decided(&session, command).await;
    }

    let queue = tenant.reviewer.get("/v1/audit/queue").await.expect(200);
    assert_eq!(commands(&queue), ["echo one", "echo two"]);
    let newest = tenant.reviewer.get("/v1/audit/queue?order=newest").await.expect(200);
    assert_eq!(commands(&newest), ["echo two", "echo one"]);
    let first = tenant.reviewer.get("/v1/audit/queue?limit=1").await.expect(200);
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let path = format!("/v1/audit/queue?limit=1&cursor={cursor}");
    let second = tenant.reviewer.get(&path).await.expect(200);
    assert_eq!((commands(&first), commands(&second)), (vec!["echo one"], vec!["echo two"]));
    let one = &queue["items"][0];
    assert_eq!(one["sampled_by"], "echoes");
    assert!(one["rules"].as_array().is_some_and(|rules| !rules.is_empty()), "{one}");
    let path = format!("/v1/audit/events?after={}&limit=1", one["seq"].as_i64().unwrap() - 1);
    let page = tenant.reviewer.get(&path).await.expect(200);
    let event = &page["items"][0];
    assert_eq!((&event["action"], &event["exec_id"]), (&json!("exec.authorize"), &one["exec_id"]));
    assert_eq!(event["detail"]["sampled_by"], "echoes", "{event}");

    let waiting = tenant.reviewer.get("/v1/audit/figures").await.expect(200);
    assert_eq!((&waiting["waiting"], &waiting["overturn_rate"]), (&json!(2), &Value::Null));
    for (sample, verdict) in [(one, "ok"), (&queue["items"][1], "violation")] {
        let body = json!({ "seq": sample["seq"], "verdict": verdict });
        tenant.reviewer.post("/v1/audit/reviews", body).await.expect(201);
    }
    let empty = tenant.reviewer.get("/v1/audit/queue").await.expect(200);
    assert_eq!(empty["items"], json!([]));
    let figures = tenant.reviewer.get("/v1/audit/figures").await.expect(200);
    let counts = ["decided", "auto_approved", "reviewed", "overturned", "sampled", "waiting"]
        .map(|name| figures[name].as_i64());
    assert_eq!(counts, [5, 4, 2, 1, 2, 0].map(Some), "{figures}");
    assert_eq!(figures["auto_approve_rate"], 0.8);
    assert_eq!(figures["overturn_rate"], 0.5);
    let took = &figures["time_to_review_s"];
    assert!(took["median"].as_f64() > Some(0.0) && took["p95"].as_f64() >= took["median"].as_f64());
    // The last word counts.
    let body = json!({ "seq": queue["items"][1]["seq"], "verdict": "ok" });
    tenant.reviewer.post("/v1/audit/reviews", body).await.expect(201);
    let figures = tenant.reviewer.get("/v1/audit/figures").await.expect(200);
    assert_eq!((&figures["reviewed"], &figures["overturned"]), (&json!(2), &json!(0)));
    // And nothing of it is another tenant's business.
    let stranger = TestTenant::create(stack, "undrawn").await;
    let foreign = stranger.reviewer.get("/v1/audit/queue").await.expect(200);
    assert_eq!(foreign["items"], json!([]));
    let figures = stranger.reviewer.get("/v1/audit/figures").await.expect(200);
    assert_eq!((&figures["decided"], &figures["sampled"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn what_a_new_policy_releases_is_drawn_and_what_people_release_is_not() {
    let tenant = TestTenant::create(Stack::shared(), "released").await;
    let every = json!({ "rules": [{ "id": "all", "one_in": 1 }] });
    put_sampling(&tenant.owner, every).await.expect(200);
    let session = tenant.session().await;
    let by_people = session.submit(json!({ "command": "touch by-people" })).await;
    let approval = session.approval_of(&by_people).await;
    session.decide(&approval, "approve", None).await;
    session.wait_until(&by_people, |exec| exec["state"] == "queued").await;
    let by_policy = session.submit(json!({ "command": "touch by-policy" })).await;
    session.approval_of(&by_policy).await;
    tenant
        .put(
            "@id(\"touches\") permit(principal, action == Action::\"AutoApprove\", resource) \
             when { context.program == \"touch\" };",
        )
        .await;
    session.wait_until(&by_policy, |exec| exec["decision"]["outcome"] == "allow").await;
    let queue = tenant.reviewer.get("/v1/audit/queue").await.expect(200);
    assert_eq!(commands(&queue), ["touch by-policy"]);
    assert_eq!(queue["items"][0]["rules"], json!(["touches"]));
}

#[tokio::test]
async fn a_change_of_sampling_is_on_record_and_meets_no_other_unseen() {
    let tenant = TestTenant::create(Stack::shared(), "sampling").await;
    let of = |one_in: u32, version: Option<i64>| json!({ "rules": [{ "id": "all", "one_in": one_in }], "expected_version": version });
    put_sampling(&tenant.owner, of(10, Some(0))).await.expect(200);
    put_sampling(&tenant.owner, of(20, Some(1))).await.expect(200);
    let late = put_sampling(&tenant.owner, of(30, Some(1))).await;
    assert_eq!((late.status, late.code()), (409, "setting_changed"));
    let page = tenant.reviewer.get("/v1/audit/events?action=audit.sampling").await.expect(200);
    let items = page["items"].as_array().expect("a list");
    let objects: Vec<&Value> = items.iter().map(|event| &event["object"]).collect();
    assert_eq!(objects, ["audit.sampling/1", "audit.sampling/2"]);
    let detail = &items[1]["detail"];
    assert_eq!(detail["from"]["rules"][0]["one_in"], 10, "{detail}");
    assert_eq!(detail["to"]["rules"][0]["one_in"], 20, "{detail}");
}

#[tokio::test]
async fn nobody_reviews_what_they_asked_for() {
    let stack = Stack::shared();
    let tenant = TestTenant::create(stack, "own-review").await;
    let made = tenant.owner.post("/v1/sessions", json!({})).await.expect(201);
    let id = made["session_id"].as_str().expect("an id").to_owned();
    let session =
        TestSession { id, agent: tenant.owner.clone(), reviewer: tenant.reviewer.clone() };
    let exec = decided(&session, "echo mine").await;
    let path = format!("/v1/audit/events?exec_id={}", exec["exec_id"].as_str().expect("an id"));
    let events = tenant.owner.get(&path).await.expect(200);
    for event in events["items"].as_array().expect("a list") {
        let body = json!({ "seq": event["seq"], "verdict": "ok" });
        // The second one's token was made by whoever asked.
        for caller in [&tenant.owner, &tenant.reviewer] {
            let answer = caller.post("/v1/audit/reviews", body.clone()).await;
            assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{event}");
        }
    }
    put_sampling(&tenant.owner, json!({ "rules": [] })).await.expect(200);
    let page = tenant.owner.get("/v1/audit/events?action=audit.sampling").await.expect(200);
    let body = json!({ "seq": page["items"][0]["seq"], "verdict": "ok" });
    assert_eq!(tenant.owner.post("/v1/audit/reviews", body.clone()).await.status, 403);
    tenant.reviewer.post("/v1/audit/reviews", body).await.expect(201);
}

#[tokio::test]
async fn rules_and_ranges_out_of_their_limits_are_refused() {
    let stack = Stack::shared();
    let owner = stack.owner("acme");
    let rule = |more: Value| {
        let mut rule = json!({ "id": "all", "one_in": 1 });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let many: Vec<Value> = (0..51).map(|n| rule(json!({ "id": format!("r{n}") }))).collect();
    for (rules, code, word) in [
        (json!([rule(json!({ "one_in": 0 }))]), "invalid_sampling", "rules[0].one_in"),
        (json!([rule(json!({ "one_in": 1_000_001 }))]), "invalid_sampling", "rules[0].one_in"),
        (json!([rule(json!({ "one_in": -1 }))]), "invalid_body", "one_in"),
        (json!([rule(json!({ "id": "a b" }))]), "invalid_sampling", "rules[0].id"),
        (json!([rule(json!({})), rule(json!({}))]), "invalid_sampling", "rules[1].id"),
        (json!([rule(json!({ "program": "" }))]), "invalid_sampling", "rules[0].program"),
        (json!([rule(json!({ "percent": 5 }))]), "invalid_body", "percent"),
        (json!(many), "invalid_sampling", "50"),
    ] {
        let answer = put_sampling(&owner, json!({ "rules": rules })).await;
        assert_eq!((answer.status, answer.code()), (422, code), "{rules}: {}", answer.text);
        assert!(answer.text.contains(word), "{rules}: {}", answer.text);
    }
    for (query, code) in [
        ("figures?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "invalid_range"),
        ("figures?since=2020-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", "invalid_range"),
        ("figures?since=yesterday", "invalid_query"),
        ("queue?order=random", "invalid_query"),
        ("queue?limit=201", "invalid_limit"),
        ("queue?cursor=1", "invalid_cursor"),
        ("queue?program=ls", "invalid_query"),
    ] {
        let answer = owner.get(&format!("/v1/audit/{query}")).await;
        assert_eq!((answer.status, answer.code()), (422, code), "{query}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewer_works_the_queue_off_with_the_program() {
    let stack = Stack::shared();
    let tenant = TestTenant::shared(stack).await;
    let run = |arguments: &[&str]| {
        let output = stack.cli(arguments).args(["--tenant", "initech"]).output();
        let output = output.expect("the program starts");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    run(&["audit", "sampling", "--every", "1"]);
    let session = tenant.session().await;
    session.run("echo seen-by-the-program").await;
    run(&["audit", "sampling", "--off"]);
    session.run("echo not-seen").await;
    let queue = run(&["audit", "queue", "--newest", "--json"]);
    let first: Value = serde_json::from_str(queue.lines().next().expect("one")).expect("JSON");
    assert_eq!(first["command"], "echo seen-by-the-program");
    let seq = first["seq"].to_string();
    run(&["audit", "review", &seq, "--verdict", "needs-rule", "--comment", "why not"]);
    let exec_id = first["exec_id"].as_str().expect("an id");
    assert!(!run(&["audit", "queue", "--json"]).contains(exec_id));
    let figures: Value = serde_json::from_str(&run(&["audit", "figures", "--json"])).expect("JSON");
    assert!(figures["overturned"].as_i64() >= Some(1), "{figures}");
    assert!(run(&["audit", "sampling", "--json"]).contains("\"rules\":[]"));
}
