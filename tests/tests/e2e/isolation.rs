//! Tenants do not see each other: not through the API, not through the database.

use reqwest::Method;
use serde_json::json;
use tests::Stack;

/// Every operation that names an object: as another tenant and with a random id, the answers
/// must be the same to the byte.
#[tokio::test]
async fn a_foreign_object_answers_like_one_that_does_not_exist() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let approval = session.approval_of(&exec).await;
    let path = format!("/v1/sessions/{}/turns", session.id);
    let turn = session.agent.post(&path, json!({ "input": "hello" })).await.expect(201);
    let (exec, turn) = (exec["exec_id"].as_str().unwrap(), turn["turn_id"].as_str().unwrap());
    let owner = stack.owner("acme");
    let token =
        owner.post("/v1/tokens", json!({ "name": "t", "role": "viewer" })).await.expect(201);
    let token = token["token_id"].as_str().unwrap();

    let run = Some(json!({ "command": "true" }));
    let operations = [
        (Method::GET, "/v1/sessions/{}", &*session.id, None),
        (Method::DELETE, "/v1/sessions/{}", &session.id, None),
        (Method::POST, "/v1/sessions/{}/shutdown", &session.id, None),
        (Method::POST, "/v1/sessions/{}/interrupt", &session.id, None),
        (Method::GET, "/v1/sessions/{}/execs", &session.id, None),
        (Method::POST, "/v1/sessions/{}/execs", &session.id, run),
        (Method::POST, "/v1/sessions/{}/turns", &session.id, Some(json!({ "input": "hi" }))),
        (Method::GET, "/v1/sessions/{}/events", &session.id, None),
        (Method::GET, "/v1/turns/{}", turn, None),
        (Method::GET, "/v1/execs/{}", exec, None),
        (Method::GET, "/v1/execs/{}/output", exec, None),
        (Method::POST, "/v1/execs/{}/cancel", exec, None),
        (Method::GET, "/v1/approvals/{}", &approval, None),
        (
            Method::POST,
            "/v1/approvals/{}/decision",
            &approval,
            Some(json!({ "decision": "approve" })),
        ),
        (Method::POST, "/v1/approvals/{}/proposal", &approval, Some(json!({}))),
        (Method::DELETE, "/v1/tokens/{}", token, None),
    ];
    let stranger = stack.owner("globex");
    for (method, path, id, body) in operations {
        let random = format!("{}{}", &id[..4], "0123456789abcdef0123456789abcdef");
        let foreign = stranger.call(method.clone(), &path.replace("{}", id), body.clone()).await;
        let missing = stranger.call(method.clone(), &path.replace("{}", &random), body).await;
        assert_eq!(foreign.status, 404, "{method} {path}: {}", foreign.text);
        assert_eq!((foreign.status, foreign.text), (missing.status, missing.text), "{path}");
    }
    // And nothing of it had any effect.
    let now = session.agent.get(&format!("/v1/execs/{exec}")).await.expect(200);
    assert_eq!(now["state"], "pending_approval");
}

#[tokio::test]
async fn lists_hold_the_callers_own_only() {
    let stack = Stack::shared();
    let session = stack.session().await;
    session.run("echo secret-of-acme").await;
    let stranger = stack.owner("globex");
    for path in ["/v1/sessions?limit=200", "/v1/approvals?limit=200", "/v1/audit/events?limit=200"]
    {
        let answer = stranger.get(path).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.text.contains(&session.id), "{path}");
        assert!(!answer.text.contains("secret-of-acme"), "{path}");
    }
}

#[tokio::test]
async fn row_security_stops_a_query_without_or_with_another_scope() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let tenants = stack.platform().get("/v1/tenants").await.expect(200);
    let id = |name: &str| {
        let items = tenants["items"].as_array().expect("a list");
        let tenant = items.iter().find(|tenant| tenant["name"] == name).expect("a tenant");
        tenant["tenant_id"].as_str().expect("an id").to_owned()
    };
    let count = format!("SELECT count(*) FROM sessions WHERE id = '{}'", session.id);
    stack.psql(&count).expect_err("no scope is an error");
    let scoped = |tenant: &str, sql: &str| {
        let scope = format!("SELECT set_config('app.tenant_id', '{}', true)", id(tenant));
        stack.psql(&format!("BEGIN; {scope}; {sql}; COMMIT"))
    };
    assert!(scoped("acme", &count).expect("runs").ends_with('1'));
    assert!(scoped("globex", &count).expect("runs").ends_with('0'));
    let steal = format!(
        "INSERT INTO executors (tenant_id, id, version, host, image_digest) \
         VALUES ('{}', 'exr_x', '1', 'h', 'd')",
        id("acme")
    );
    let refused = scoped("globex", &steal).expect_err("WITH CHECK");
    assert!(refused.contains("row-level security"), "{refused}");
}

/// What a forgotten `WHERE tenant_id = …` would do: the service's role, another tenant's scope, and
/// statements that name no tenant at all.
#[tokio::test]
async fn row_security_alone_stops_a_statement_that_forgot_its_tenant() {
    let stack = Stack::shared();
    let session = stack.session().await;
    session.run("echo mine").await;
    let (own, other) = (stack.tenant_id("acme").await, stack.tenant_id("globex").await);
    let as_tenant = |tenant: &str, sql: &str| {
        let scope = format!("SELECT set_config('app.tenant_id', '{tenant}', true)");
        let text = stack.psql(&format!("BEGIN; {scope}; {sql}; COMMIT")).expect("runs");
        text.lines().skip(1).map(ToOwned::to_owned).collect::<Vec<_>>().join(" ")
    };
    for table in [
        "sessions",
        "execs",
        "session_events",
        "output_chunks",
        "tokens",
        "audit_events",
        "usage_days",
    ] {
        let column = if table == "audit_events" { "chain" } else { "tenant_id" };
        let theirs = format!("SELECT count(*) FROM {table} WHERE {column} = '{own}'");
        assert_eq!(as_tenant(&other, &theirs), "0", "{table}");
        assert_ne!(as_tenant(&own, &theirs), "0", "{table}");
        let foreign = format!("SELECT count(*) FROM {table} WHERE {column} <> '{other}'");
        assert_eq!(as_tenant(&other, &foreign), "0", "{table}");
    }
    let steal = format!("UPDATE sessions SET name = 'stolen' WHERE id = '{}'", session.id);
    as_tenant(&other, &steal);
    let path = format!("/v1/sessions/{}", session.id);
    assert_eq!(session.agent.get(&path).await.expect(200)["name"], "test");
}

#[tokio::test]
async fn every_tenant_table_forces_row_security() {
    let open = Stack::shared()
        .psql(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
               AND a.attname IN ('tenant_id', 'chain') AND c.relname <> 'outbox'
               AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
                   SELECT FROM pg_policy p
                   WHERE p.polrelid = c.oid AND p.polwithcheck IS NOT NULL))",
        )
        .expect("the catalogue can be read");
    assert_eq!(open, "");
}
