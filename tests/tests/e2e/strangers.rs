//! Callers without a good token, and peers that do not keep to the rules of HTTP: bounded in number,
//! in time and in what they can stand in the way of.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Caller, Replica, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Begins within the first half of a minute: counts start anew with the next one.
async fn early_in_a_minute() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let second = now.expect("after 1970").as_secs() % 60;
    if second > 30 {
        tokio::time::sleep(Duration::from_secs(61 - second)).await;
    }
}

#[tokio::test]
async fn an_address_without_a_good_token_is_slowed_down_and_nobody_else_is() {
    let stack = Stack::shared();
    let env = [("BULKHEAD_ANONYMOUS_REQUESTS_PER_MINUTE", "20")];
    let replica = Replica::start(stack, &env).await;
    let good = replica.caller(Some(&stack.dev().tenants["acme"].viewer_token));
    let strangers =
        [(None, "/v1/sessions"), (Some("bh_a.b.c"), "/v1/tokens"), (None, "/no/such/path")];
    early_in_a_minute().await;
    let mut statuses = Vec::new();
    for round in 0..30 {
        let (token, path) = strangers[round % strangers.len()];
        let answer = replica.caller(token).get(path).await;
        assert!(answer.headers.contains_key("ratelimit-remaining"), "{answer:?}");
        if answer.status == 429 {
            assert_eq!(answer.code(), "rate_limited");
            assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        }
        statuses.push(answer.status);
    }
    assert!(statuses[..20].iter().all(|status| [401, 404].contains(status)), "{statuses:?}");
    assert!(statuses[20..].iter().all(|status| *status == 429), "{statuses:?}");
    for path in ["/.well-known/jwks.json", "/openapi.json", "/metrics"] {
        assert_eq!(replica.caller(None).get(path).await.status, 429, "{path}");
    }
    // From the same address: probes, and whoever has a token.
    assert_eq!(replica.caller(None).get("/healthz").await.status, 200);
    assert_eq!(replica.caller(None).get("/readyz").await.status, 200);
    assert_eq!(good.get("/v1/sessions").await.status, 200);
}

/// Every operation that has no body, by the description.
async fn without_body(stack: &Stack) -> Vec<(Method, String)> {
    let api = stack.anonymous().get("/openapi.json").await.expect(200);
    let mut found = Vec::new();
    for (path, item) in api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            if operation["requestBody"].is_null() {
                let id = "ses_0123456789abcdef0123456789abcdef";
                let path = path.replace("{id}", id).replace("{path}", "x");
                found.push((method.to_uppercase().parse().expect("a method"), path));
            }
        }
    }
    found
}

#[tokio::test]
async fn an_operation_without_a_body_takes_none() {
    let stack = Stack::shared();
    let owner = stack.owner("acme");
    let operations = without_body(stack).await;
    assert!(operations.len() > 25, "{operations:?}");
    for (method, path) in operations {
        for body in [json!({ "force": true }), json!("x"), json!("{\"a\":"), json!([])] {
            let answer = owner.call(method.clone(), &path, Some(body.clone())).await;
            let told = (answer.status, answer.code().to_owned());
            assert_eq!(told, (400, "unexpected_body".into()), "{method} {path} {body}");
        }
        // Which never ends: nobody reads that far.
        let huge = json!("x".repeat(4 << 20));
        // Its connection ends with the answer: nobody else may wait on it.
        let answer = stack.owner("acme").call(method.clone(), &path, Some(huge)).await;
        assert!([0, 400].contains(&answer.status), "{method} {path}: {}", answer.status);
    }
}

#[tokio::test]
async fn an_empty_object_counts_as_no_body() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/shutdown", session.id);
    for body in [Some(json!({})), Some(json!(" {} \n")), Some(json!("")), None] {
        let answer = session.agent.call(Method::POST, &path, body.clone()).await;
        assert_eq!(answer.status, 202, "{body:?}: {}", answer.text);
    }
}

async fn connect(url: &str) -> TcpStream {
    TcpStream::connect(url.replace("http://", "")).await.expect("connects")
}

/// Sends a text and reads what comes until the connection ends or the time is over.
async fn send(url: &str, text: &str, limit: Duration) -> String {
    let mut stream = connect(url).await;
    stream.write_all(text.as_bytes()).await.expect("writes");
    let mut all = Vec::new();
    let _ = tokio::time::timeout(limit, stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let stack = Stack::shared();
    let token = &stack.dev().tenants["acme"].agent_token;
    let begun = Instant::now();
    let head = format!(
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{{"
    );
    let said = send(&stack.dev().api_url, &head, Duration::from_secs(25)).await;
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("unreadable_body"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(22), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let stack = Stack::shared();
    let env = [("BULKHEAD_CONNECTIONS_PER_ADDRESS", "8")];
    let replica = Replica::start(stack, &env).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(connect(replica.url()).await);
    }
    // Those that are too many end at once; the others are waited for.
    let mut ended = 0;
    for stream in &mut open {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut byte)).await;
        ended += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert!((12..=13).contains(&ended), "{ended} of 20 were ended");
    drop(open);
    let caller = replica.caller(None);
    let again = async {
        while caller.get("/healthz").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("places are free again");
}

#[tokio::test]
async fn a_missing_or_foreign_migration_is_named_by_readyz() {
    let stack = Stack::start("schema");
    let superuser = superuser(&stack);
    let change = |sql: &str| {
        let status =
            std::process::Command::new("psql").arg(&superuser).args(["-Xqc", sql]).status();
        assert!(status.is_ok_and(|status| status.success()), "{sql}");
    };
    let anybody = stack.anonymous();
    change("CREATE TABLE kept AS SELECT * FROM _sqlx_migrations");
    for (sql, word) in [
        ("DELETE FROM _sqlx_migrations WHERE version = 6", "migration 6 is missing"),
        ("UPDATE _sqlx_migrations SET success = false WHERE version = 7", "migration 7 failed"),
        (
            "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 3",
            "migration 3 is another",
        ),
        ("DELETE FROM _sqlx_migrations", "nothing is applied"),
    ] {
        change(sql);
        let told = readiness(&anybody, 503).await;
        assert!(told.to_string().contains(word), "{sql}: {told}");
        change("DELETE FROM _sqlx_migrations; INSERT INTO _sqlx_migrations SELECT * FROM kept");
        assert_eq!(readiness(&anybody, 200).await["missing"], json!([]));
    }
}

/// What `/readyz` says, once it says it with this status.
async fn readiness(caller: &Caller, status: u16) -> Value {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let answer = caller.get("/readyz").await;
        if answer.status == status {
            return answer.body;
        }
        assert!(Instant::now() < deadline, "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn superuser(stack: &Stack) -> String {
    let file = stack.data_dir().join("secrets/postgres.json");
    let passwords: Value =
        serde_json::from_slice(&std::fs::read(file).expect("is there")).expect("JSON");
    let url = stack.dev().database_url;
    let (_, place) = url.split_once('@').expect("a host");
    format!("postgres://postgres:{}@{place}", passwords["superuser"].as_str().expect("a password"))
}
