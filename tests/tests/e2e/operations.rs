//! What operators rely on: a service that refuses a role that is too strong, readiness and
//! metrics, settings that are refused by name.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tests::{Stack, bin_dir};

/// Runs the control plane's program to its end.
fn run(stack: &Stack, arguments: &[&str], env: &[(&str, String)]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["20"]).arg(bin_dir().join("bulkhead-control-plane")).args(arguments);
    command
        .env("DATABASE_URL", &stack.dev().database_url)
        .env("TEMPORAL_ADDRESS", &stack.dev().temporal_address)
        .env("BULKHEAD_KEY_DIR", stack.data_dir().join("keys"))
        .env("BULKHEAD_LISTEN", "127.0.0.1:0")
        .envs(env.iter().map(|(name, value)| (*name, value)));
    command.output().expect("runs")
}

#[test]
fn the_service_refuses_a_role_that_is_above_row_security() {
    let stack = Stack::shared();
    for (role, name) in [("superuser", "superuser"), ("owner", "table owner")] {
        let env = [("DATABASE_URL", stack.database_as(role))];
        for command in ["serve", "worker", "doctor"] {
            let output = run(stack, &[command], &env);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{command} as {role}");
            assert!(said.contains("too strong") && said.contains(name), "{command}: {said}");
        }
    }
}

#[test]
fn a_role_that_may_bypass_row_security_is_refused_too() {
    let stack = Stack::start("bypass");
    let root = stack.database_as("superuser");
    let status = Command::new("psql")
        .arg(&root)
        .args(["--no-psqlrc", "-qc", "ALTER ROLE bulkhead_app BYPASSRLS"])
        .status();
    assert!(status.is_ok_and(|status| status.success()));
    let output = run(&stack, &["serve"], &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("BYPASSRLS"), "{said}");
}

#[test]
fn the_doctor_finds_nothing_on_a_sound_stack_and_names_what_is_missing() {
    let stack = Stack::shared();
    let output = run(stack, &["doctor"], &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let env = [
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/x".to_owned()),
        ("TEMPORAL_ADDRESS", "http://127.0.0.1:1".to_owned()),
        ("BULKHEAD_KEY_DIR", "/nowhere".to_owned()),
    ];
    let output = run(stack, &["doctor"], &env);
    let said = String::from_utf8_lossy(&output.stderr);
    for word in ["Postgres", "Temporal", "keys"] {
        assert!(!output.status.success() && said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_setting_that_nobody_knows_is_refused_and_no_secret_is_printed() {
    let stack = Stack::shared();
    let output = run(stack, &["doctor"], &[("BULKHEAD_LISTEM", "x".into())]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("BULKHEAD_LISTEM"));
    let url = "not a url with hunter2 in it".to_owned();
    let output = run(stack, &["doctor"], &[("DATABASE_URL", url)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn metrics_count_by_route_and_name_nobody() {
    let stack = Stack::shared();
    let session = stack.session().await;
    session.run("echo counted").await;
    let answer = stack.anonymous().get("/metrics").await;
    assert_eq!(answer.status, 200);
    let kind = answer.headers["content-type"].to_str().expect("a text");
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    for line in [
        "bulkhead_http_requests_total{method=\"POST\",route=\"/v1/sessions/{id}/execs\",status=\"201\"}",
        "bulkhead_http_request_duration_seconds_bucket",
        "bulkhead_database_listening 1",
        "bulkhead_revocations_known 1",
        "bulkhead_temporal_connected 1",
        "# EOF",
    ] {
        assert!(answer.text.contains(line), "{line} in\n{}", answer.text);
    }
    for word in ["acme", "ses_", "tok_", "ten_", &session.id] {
        assert!(!answer.text.contains(word), "{word}");
    }
}

#[tokio::test]
async fn executors_are_listed_with_what_they_are() {
    let stack = Stack::shared();
    let executors = stack.owner("acme").get("/v1/executors").await.expect(200);
    let executor = &executors["items"][0];
    assert_eq!(executor["state"], "live");
    for name in ["version", "host", "image_digest", "last_seen_at"] {
        assert!(executor[name].as_str().is_some_and(|text| !text.is_empty()), "{executor}");
    }
    assert!(executor["isolation_tier"].as_u64().is_some_and(|tier| tier <= 3), "{executor}");
    assert!(executor["capacity"].as_u64().is_some_and(|count| count > 0), "{executor}");
}

#[tokio::test]
async fn tokens_are_listed_with_who_made_them() {
    let stack = Stack::shared();
    let owner = stack.owner("acme");
    let made = owner.post("/v1/tokens", json!({ "name": "listed", "role": "viewer" })).await;
    let made = made.expect(201);
    let mut query = String::from("?limit=200");
    let found = loop {
        let page = owner.get(&format!("/v1/tokens{query}")).await.expect(200);
        let items = page["items"].as_array().expect("items").clone();
        if let Some(found) = items.into_iter().find(|token| token["token_id"] == made["token_id"]) {
            break found;
        }
        query = format!("?limit=200&cursor={}", page["next_cursor"].as_str().expect("is there"));
    };
    assert!(found["created_by"].as_str().is_some_and(|id| id.starts_with("tok_")), "{found}");
    assert_eq!((&found["last_used_at"], &found["revoked_at"]), (&Value::Null, &Value::Null));
    assert!(found.get("token").is_none(), "{found}");
}

/// With sorting and full scans forbidden as far as the planner can, what is left says whether an
/// index gives the rows in the order of the list.
#[tokio::test]
async fn every_list_is_read_from_an_index_in_its_order() {
    let stack = Stack::shared();
    let tenant = stack.tenant_id("acme").await;
    let before = |id: &str| format!("AND id < '{id}' ORDER BY id DESC LIMIT 50");
    for (table, rest) in [
        ("sessions", before("set")),
        ("execs", format!("AND session_id = 'x' {}", before("exf"))),
        ("execs", format!("AND session_id = 'x' AND state = 'running' {}", before("exf"))),
        ("approvals", before("aps")),
        ("approvals", format!("AND state = 'pending' {}", before("aps"))),
        ("tokens", "AND id > '' ORDER BY id LIMIT 50".into()),
        ("executors", "AND id > '' ORDER BY id LIMIT 50".into()),
        ("webhooks", "AND id > '' ORDER BY id LIMIT 50".into()),
        ("session_events", "AND session_id = 'x' AND seq > 5 ORDER BY seq LIMIT 100".into()),
    ] {
        let plan = stack
            .psql(&format!(
                "BEGIN; SELECT set_config('app.tenant_id', '{tenant}', true);
                 SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off;
                 SET LOCAL enable_bitmapscan = off;
                 EXPLAIN SELECT * FROM {table} WHERE tenant_id = '{tenant}' {rest}; COMMIT"
            ))
            .expect("a plan");
        let good = plan.contains("Index Scan") && !plan.contains("Sort") && !plan.contains("Seq");
        assert!(good, "{table} {rest}\n{plan}");
    }
}
