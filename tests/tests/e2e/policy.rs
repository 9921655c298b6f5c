//! The tenant's policy on the real stack: put, version, decide, tighten, loosen. Tests
//! that change it have a tenant of their own, or one to themselves.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Stack, TestSession, TestTenant};

/// Asks about everything but reading, and denies one program.
const STRICT: &str = r#"
@id("reads") permit (principal, action == Action::"AutoApprove", resource)
when { context.understood && ["read"].containsAll(context.effects) };

@id("no-touch") @reason("nothing is touched here")
forbid (principal, action == Action::"Run", resource) when { context.program == "touch" };
// test: deny: touch a
"#;

/// Lets `touch` run as well.
const LOOSE: &str = r#"
@id("reads") permit (principal, action == Action::"AutoApprove", resource)
when { context.understood && ["read"].containsAll(context.effects) };

@id("touches") @reason("touching is fine")
permit (principal, action == Action::"AutoApprove", resource) when { context.program == "touch" };
// test: allow: touch a
"#;

/// How long a past of 100 000 commands may take.
const PAST_LIMIT: Duration = Duration::from_secs(10);

async fn approval(session: &TestSession, id: &str) -> Value {
    session.reviewer.get(&format!("/v1/approvals/{id}")).await.expect(200)
}

#[tokio::test]
async fn a_tenant_without_a_policy_has_the_shipped_one() {
    let tenant = TestTenant::create(Stack::shared(), "policy-none").await;
    let shown = tenant.reviewer.get("/v1/policy").await.expect(200);
    assert_eq!((&shown["version"], &shown["created_at"]), (&json!(0), &Value::Null));
    assert!(shown["text"].as_str().is_some_and(|text| text.contains("shipped-read-only")));
    let versions = tenant.reviewer.get("/v1/policy/versions").await.expect(200);
    assert_eq!(versions["items"], json!([]));
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "echo hello" })).await;
    let exec = session.wait_until(&exec, |exec| !exec["decision"].is_null()).await;
    assert_eq!(exec["decision"]["policy_version"], 0);
    assert_eq!(exec["decision"]["rules"], json!(["shipped-read-only"]));
}

#[tokio::test]
async fn a_rule_put_approves_and_a_tightened_one_denies() {
    let tenant = TestTenant::shared(Stack::shared()).await;
    let session = tenant.session().await;
    let asked = session.submit(json!({ "command": "touch a" })).await;
    let id = session.approval_of(&asked).await;
    session.decide(&id, "approve", None).await;
    assert_eq!(session.wait(&asked).await["decision"]["policy_version"], tenant.base);

    assert_eq!(tenant.put(LOOSE).await, tenant.base + 1);
    let exec = session.run("touch a").await;
    assert_eq!(exec["state"], "exited", "{exec}");
    assert_eq!(exec["decision"]["decided_by"], "policy");
    assert_eq!(exec["decision"]["policy_version"], tenant.base + 1);
    assert_eq!(exec["decision"]["rules"], json!(["touches"]));

    assert_eq!(tenant.put(STRICT).await, tenant.base + 2);
    let exec = session.run("touch a").await;
    assert_eq!(exec["state"], "denied");
    assert_eq!(exec["decision"]["policy_version"], tenant.base + 2);
    assert!(exec["error"]["message"].as_str().is_some_and(|m| m.contains("nothing is touched")));

    let versions = tenant.reviewer.get("/v1/policy/versions").await.expect(200);
    let newest = &versions["items"][0];
    assert_eq!(newest["version"], tenant.base + 2);
    assert_eq!(versions["items"][1]["version"], tenant.base + 1);
    assert!(newest["author"].as_str().is_some_and(|who| who.contains("(owner)")), "{newest}");
    let path = format!("/v1/policy?version={}", tenant.base + 1);
    assert_eq!(tenant.reviewer.get(&path).await.expect(200)["text"], LOOSE);
}

#[tokio::test]
async fn an_invalid_policy_never_replaces_a_valid_one() {
    let tenant = TestTenant::create(Stack::shared(), "policy-bad").await;
    tenant.put(STRICT).await;
    let deep = format!(
        "@id(\"d\") permit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(5000),
        ")".repeat(5000)
    );
    for (text, line, column) in [
        (
            "@id(\"a\")\npermit (principal, action, resource) when { context.programm == \"x\" };",
            2,
            45,
        ),
        ("permit (principal, action, resource);", 1, 1),
        ("\n// test: allow: rm -rf x", 2, 1),
        ("@id(\"a\") permit (", 1, 18),
    ] {
        let body = Some(json!({ "text": text }));
        let answer = tenant.owner.call(Method::PUT, "/v1/policy", body).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_policy"), "{text}");
        let error = &answer.body["errors"][0];
        assert_eq!((&error["line"], &error["column"]), (&json!(line), &json!(column)), "{text}");
    }
    for (text, status) in
        [(deep, 422), ("a\0b".into(), 422), ("// \0".into(), 422), ("/".repeat(300_000), 413)]
    {
        let body = Some(json!({ "text": text }));
        let answer = tenant.owner.call(Method::PUT, "/v1/policy", body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    let shown = tenant.reviewer.get("/v1/policy").await.expect(200);
    assert_eq!((&shown["version"], &shown["text"]), (&json!(1), &json!(STRICT)));
}

#[tokio::test]
async fn a_stored_policy_that_no_longer_loads_asks_about_everything() {
    let stack = Stack::shared();
    let tenant = TestTenant::shared(stack).await;
    // What an older version of the program took, and this one does not.
    let version = tenant.base + 1;
    let sql = format!(
        "BEGIN;
         SELECT set_config('app.tenant_id', 'system', true);
         SELECT set_config('app.tenant_id', id, true) FROM tenants WHERE name = 'initech';
         INSERT INTO policies (tenant_id, version, text, created_by, author)
         SELECT id, {version}, '@id(\"all\") permit (principal, action, resource)
             when {{ context.forgotten }};', 'tok_x', 'x (owner)'
         FROM tenants WHERE name = 'initech';
         COMMIT"
    );
    stack.psql(&sql).expect("stored");
    let session = tenant.session().await;
    for command in ["ls", "touch a"] {
        let exec = session.submit(json!({ "command": command })).await;
        let id = session.approval_of(&exec).await;
        let shown = session.reviewer.get(&format!("/v1/approvals/{id}")).await.expect(200);
        assert_eq!(shown["rules"], json!(["policy-unreadable"]), "{shown}");
        assert_eq!(shown["policy_version"], version);
        let why = format!("policy version {version} cannot be read by this version of the program");
        assert_eq!(shown["reasons"], json!([why]));
    }
    let answer = tenant.reviewer.post("/v1/policy/check", json!({ "command": "ls" })).await;
    assert_eq!(answer.expect(200)["decision"], "ask");
    // A readable one sets it right, and settles what waits.
    assert_eq!(tenant.put(STRICT).await, version + 1);
    assert_eq!(session.run("ls").await["state"], "exited");
    assert_eq!(session.run("touch a").await["state"], "denied");
}

#[tokio::test]
async fn two_changes_of_the_same_version_do_not_overwrite_each_other() {
    let tenant = TestTenant::create(Stack::shared(), "policy-race").await;
    let body = |text: &str| Some(json!({ "text": text, "expected_version": 0 }));
    let first = tenant.owner.call(Method::PUT, "/v1/policy", body(LOOSE)).await;
    let second = tenant.owner.call(Method::PUT, "/v1/policy", body(STRICT)).await;
    assert_eq!(first.status, 200);
    assert_eq!((second.status, second.code()), (409, "policy_changed"));
}

#[tokio::test]
async fn only_an_owner_puts_a_policy_and_only_who_may_reads_it() {
    let tenant = TestTenant::create(Stack::shared(), "policy-roles").await;
    let body = Some(json!({ "text": LOOSE }));
    for caller in [&tenant.reviewer, &tenant.agent] {
        assert_eq!(caller.call(Method::PUT, "/v1/policy", body.clone()).await.status, 403);
    }
    assert_eq!(tenant.agent.get("/v1/policy").await.status, 403);
    assert_eq!(tenant.agent.post("/v1/policy/check", json!({ "command": "ls" })).await.status, 403);
    assert_eq!(tenant.reviewer.get("/v1/policy").await.status, 200);
    assert_eq!(tenant.reviewer.get("/v1/policy?version=9").await.status, 404);
}

#[tokio::test]
async fn a_stricter_version_denies_what_waits() {
    let tenant = TestTenant::shared(Stack::shared()).await;
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "touch a" })).await;
    let id = session.approval_of(&exec).await;
    tenant.put(STRICT).await;
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "denied", "{exec}");
    assert_eq!(exec["decision"]["decided_by"], "policy");
    assert_eq!(exec["decision"]["policy_version"], tenant.base + 1);
    assert_eq!(exec["decision"]["rules"], json!(["no-touch"]));
    let approval = approval(&session, &id).await;
    assert_eq!((&approval["state"], &approval["decided_by"]), (&json!("denied"), &json!("policy")));
    let path = format!("/v1/approvals/{id}/decision");
    let late = session.reviewer.post(&path, json!({ "decision": "approve" })).await;
    assert_eq!(late.status, 409);
    let events = tenant.owner.audit_of(&session.id).await;
    assert!(
        events.iter().any(|e| e["action"] == "approval.reconsider" && e["outcome"] == "denied")
    );
}

#[tokio::test]
async fn a_looser_version_releases_what_waits() {
    let tenant = TestTenant::shared(Stack::shared()).await;
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "touch a" })).await;
    let other = session.submit(json!({ "command": "mkdir b" })).await;
    let id = session.approval_of(&exec).await;
    let other_id = session.approval_of(&other).await;
    tenant.put(LOOSE).await;
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "exited", "{exec}");
    assert_eq!(exec["decision"]["decided_by"], "policy");
    assert_eq!(exec["decision"]["rules"], json!(["touches"]));
    assert_eq!(approval(&session, &id).await["state"], "approved");
    assert_eq!(approval(&session, &other_id).await["state"], "pending");
    let events = tenant.owner.audit_of(&session.id).await;
    let released = |e: &&Value| e["action"] == "approval.reconsider" && e["outcome"] == "approved";
    assert_eq!(events.iter().filter(released).count(), 1);
    // What goes on waiting is asked by another version, which is on record too.
    let asked = |e: &&Value| e["action"] == "approval.reconsider" && e["outcome"] == "asked";
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let events = tenant.owner.audit_of(&session.id).await;
        let asked: Vec<_> = events.iter().filter(asked).collect();
        if let [event] = asked.as_slice() {
            assert_eq!(event["object"], json!(other_id));
            assert_eq!(event["decision"]["policy_version"], tenant.base + 1);
            break;
        }
        assert!(asked.is_empty() && Instant::now() < deadline, "{asked:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    session.decide(&other_id, "approve", None).await;
    assert_eq!(session.wait(&other).await["state"], "exited");
}

#[tokio::test]
async fn modes_tighten_and_say_so() {
    let tenant = TestTenant::shared(Stack::shared()).await;
    tenant.put(LOOSE).await;
    let session = tenant.session_with(json!({ "approval_mode": "deny-asks" })).await;
    let denied = session.run("mkdir a").await;
    assert_eq!(denied["state"], "denied");
    assert!(denied["error"]["message"].as_str().is_some_and(|m| m.contains("nobody is there")));
    assert_eq!(session.run("touch a").await["state"], "exited");

    let session = tenant.session_with(json!({ "approval_mode": "read-only" })).await;
    assert_eq!(session.run("touch a").await["state"], "denied");
    assert_eq!(session.run("ls").await["state"], "exited");

    let session = tenant.session_with(json!({ "approval_mode": "ask-all" })).await;
    let exec = session.submit(json!({ "command": "ls" })).await;
    session.decide(&session.approval_of(&exec).await, "approve", None).await;
    assert_eq!(session.wait(&exec).await["state"], "exited");
}

#[tokio::test]
async fn rules_see_who_asks_and_what_the_session_is_for() {
    let tenant = TestTenant::shared(Stack::shared()).await;
    let policy = r#"
        @id("owners") permit (principal, action == Action::"AutoApprove", resource)
        when { principal.role == "owner" };
        @id("production") @reason("not in production")
        forbid (principal, action == Action::"Run", resource)
        when { resource.environment == "production" && context.program == "touch" };
        // test: deny (role=owner, environment=production): touch a
    "#;
    tenant.put(policy).await;
    let session = tenant.session_with(json!({ "environment": "production" })).await;
    assert_eq!(session.run("touch a").await["state"], "denied");
    let asked = session.submit(json!({ "command": "ls" })).await;
    session.approval_of(&asked).await;
    let path = format!("/v1/sessions/{}/execs", session.id);
    let body = json!({ "command": "ls", "wait_ms": 60_000 });
    let by_owner = tenant.owner.post(&path, body).await.expect(201);
    assert_eq!(by_owner["state"], "exited", "{by_owner}");
    assert_eq!(by_owner["decision"]["rules"], json!(["owners"]));
}

#[tokio::test]
async fn a_command_is_checked_and_explained_without_running() {
    let tenant = TestTenant::create(Stack::shared(), "policy-check").await;
    tenant.put(STRICT).await;
    let check = |body: Value| tenant.reviewer.post("/v1/policy/check", body);
    let answer = check(json!({ "command": "ls && touch a" })).await.expect(200);
    assert_eq!((&answer["decision"], &answer["policy_version"]), (&json!("deny"), &json!(1)));
    assert_eq!(answer["facts"].as_array().map(Vec::len), Some(2));
    let draft = check(json!({ "command": "touch a", "policy": LOOSE })).await.expect(200);
    assert_eq!((&draft["decision"], &draft["policy_version"]), (&json!("allow"), &Value::Null));
    let many = "true && ".repeat(10_000) + "true";
    let deep = "(".repeat(20_000) + "ls" + &")".repeat(20_000);
    for command in ["ls\0", &"x".repeat(200_000), &many, &deep, "ls \u{202e}", "\u{430}ls"] {
        let answer = check(json!({ "command": command })).await.expect(200);
        assert_ne!(answer["decision"], "allow", "{}", &command[..command.len().min(40)]);
    }
    let path = "/v1/policy/explain";
    let answer = tenant.reviewer.post(path, json!({ "command": "ls -l" })).await.expect(200);
    assert!(answer["text"].as_str().is_some_and(|text| text.contains("allow")), "{answer}");
}

#[tokio::test]
async fn the_audit_log_says_of_a_decision_what_explain_says() {
    let tenant = TestTenant::create(Stack::shared(), "policy-explain").await;
    tenant.put(STRICT).await;
    let session = tenant.session().await;
    for (command, decision) in [
        ("ls -l 2>/dev/null | grep \"it's\" || true", "allow"),
        ("cat 'a b'; rm x && timeout 5 cargo test", "ask"),
        ("ls && touch a", "deny"),
        ("echo $(id)", "ask"),
        ("if true; then ls; fi > x", "ask"),
    ] {
        let exec = session.submit(json!({ "command": command })).await;
        let exec = session.wait_until(&exec, |exec| !exec["decision"].is_null()).await;
        let id = exec["exec_id"].as_str().expect("an id");
        let path = format!("/v1/audit/events?exec_id={id}&action=exec.authorize");
        let events = tenant.reviewer.get(&path).await.expect(200);
        let detail = &events["items"][0]["detail"];
        let body = json!({ "command": command, "session_id": session.id });
        let said = tenant.reviewer.post("/v1/policy/explain", body).await.expect(200);
        assert_eq!(said["decision"], decision, "{said}");
        for part in ["parse", "facts", "rules", "reasons"] {
            assert!(!said[part].is_null(), "{part}: {said}");
            assert_eq!(detail[part], said[part], "{command}: {part}");
        }
        let plain = said["parse"]["not_plain"].is_null();
        assert_eq!(plain, !command.contains(['$', '>']) || decision == "allow", "{said}");
        let text = said["text"].as_str().expect("text");
        assert_eq!(text.contains("a plain script:\n"), plain, "{text}");
    }
}

#[tokio::test]
async fn a_simulation_shows_what_would_change() {
    let tenant = TestTenant::create(Stack::shared(), "policy-simulate").await;
    let session = tenant.session().await;
    for command in ["ls", "touch a", "touch a", "touch b"] {
        let exec = session.submit(json!({ "command": command })).await;
        session.wait_until(&exec, |exec| !exec["decision"].is_null()).await;
    }
    let body = json!({ "text": LOOSE, "since": "1h" });
    let answer = tenant.reviewer.post("/v1/policy/simulate", body).await.expect(200);
    assert_eq!((&answer["commands"], &answer["distinct"]), (&json!(4), &json!(3)));
    assert_eq!(answer["complete"], true);
    let flips = answer["flips"].as_array().expect("a list");
    assert_eq!(flips.len(), 1, "{answer}");
    assert_eq!((&flips[0]["from"], &flips[0]["to"]), (&json!("ask"), &json!("allow")));
    assert_eq!(flips[0]["count"], 3);
    assert_eq!(flips[0]["examples"][0]["command"], "touch a");
    assert_eq!(flips[0]["examples"][0]["count"], 2);
    let bad = json!({ "text": LOOSE, "since": "yesterday" });
    assert_eq!(tenant.reviewer.post("/v1/policy/simulate", bad).await.code(), "invalid_since");
}

#[tokio::test]
async fn a_rule_is_proposed_with_what_else_it_would_admit() {
    let tenant = TestTenant::create(Stack::shared(), "policy-propose").await;
    let session = tenant.session().await;
    let propose = async |command: &str| {
        let exec = session.submit(json!({ "command": command })).await;
        let id = session.approval_of(&exec).await;
        tenant.reviewer.post(&format!("/v1/approvals/{id}/proposal"), json!({})).await
    };
    for command in ["cargo test a", "cargo test b", "cargo build", "cargo test c", "cargo test d"] {
        let exec = session.submit(json!({ "command": command })).await;
        session.approval_of(&exec).await;
    }
    let proposal = propose("cargo test").await.expect(200);
    let admitted = proposal["would_admit"].as_array().expect("a list");
    assert_eq!(admitted.len(), 3, "{proposal}");
    assert!(admitted.iter().all(|it| it["command"].as_str().unwrap().starts_with("cargo test ")));
    let refused = propose("bash -c ls").await;
    assert_eq!((refused.status, refused.code()), (422, "no_rule_proposed"));
    // What is proposed can be put, and does what it says.
    let shipped = tenant.reviewer.get("/v1/policy").await.expect(200);
    let text =
        format!("{}\n{}", shipped["text"].as_str().unwrap(), proposal["text"].as_str().unwrap());
    tenant.put(&text).await;
    let answer = tenant.reviewer.post("/v1/policy/check", json!({ "command": "cargo test" })).await;
    assert_eq!(answer.expect(200)["decision"], "allow");
}

#[tokio::test]
async fn a_long_past_is_simulated_whole() {
    let stack = Stack::shared();
    let tenant = TestTenant::create(stack, "policy-past").await;
    let session = tenant.session().await;
    let tenants = stack.platform().get("/v1/tenants").await.expect(200);
    let named = |item: &&Value| item["name"].as_str().is_some_and(|n| n.starts_with("policy-past"));
    let id =
        tenants["items"].as_array().unwrap().iter().find(named).expect("it")["tenant_id"].clone();
    let id = id.as_str().expect("an id");
    let sql = format!(
        "BEGIN;
         SELECT set_config('app.tenant_id', '{id}', true);
         INSERT INTO execs (tenant_id, id, session_id, state, command, cwd, env, timeout_ms,
                            decision, created_by, finished_at)
         SELECT '{id}', 'exe_' || lpad(to_hex(n), 32, '0'), '{session}', 'exited',
                (ARRAY['cat src/file', 'touch build/file', 'cargo test case'])[n % 3 + 1] || n % 333,
                '/work', '{{}}', 1000,
                jsonb_build_object('outcome', CASE n % 3 WHEN 0 THEN 'allow' ELSE 'ask' END,
                    'rules', '[]'::jsonb, 'reasons', '[]'::jsonb, 'facts', '[]'::jsonb,
                    'policy_version', 0, 'decided_by', 'policy'), 'tok_x', now()
         FROM generate_series(1, 100000) AS n;
         COMMIT",
        session = session.id
    );
    stack.psql(&sql).expect("filled");
    let began = std::time::Instant::now();
    let body = json!({ "text": LOOSE, "since": "1h" });
    let answer = tenant.reviewer.post("/v1/policy/simulate", body).await.expect(200);
    let took = began.elapsed();
    println!("100 000 commands in {took:?}");
    assert!(took <= PAST_LIMIT, "{took:?}");
    assert_eq!((&answer["commands"], &answer["complete"]), (&json!(100_000), &json!(true)));
    assert_eq!(answer["distinct"], 333);
    let flips = answer["flips"].as_array().expect("a list");
    assert_eq!(flips.len(), 1, "{answer}");
    assert_eq!((&flips[0]["from"], &flips[0]["to"]), (&json!("ask"), &json!("allow")));
    assert_eq!(flips[0]["count"], 33_334);
}
