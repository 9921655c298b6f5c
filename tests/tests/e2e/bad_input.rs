//! Bad input: a clear refusal with a stable code, and nothing else.

use reqwest::Method;
use serde_json::{Value, json};
use tests::Stack;

#[tokio::test]
async fn a_token_that_is_not_ours_is_refused() {
    let stack = Stack::shared();
    let good = stack.dev().tenants["acme"].agent_token.clone();
    let mut changed = good.clone();
    let last = changed.pop().expect("not empty");
    changed.push(if last == 'A' { 'B' } else { 'A' });
    let payload = "eyJyb2xlIjoib3duZXIifQ";
    let unsigned = format!("bh_eyJhbGciOiJub25lIn0.{payload}.");
    for token in ["", "bh_", "bh_a.b.c", good.trim_start_matches("bh_"), &changed, &unsigned] {
        let answer = stack.caller(Some(token)).get("/v1/sessions").await;
        assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{token}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    assert_eq!(stack.anonymous().get("/v1/sessions").await.status, 401);
    assert_eq!(stack.caller(Some(&good)).get("/v1/sessions").await.status, 200);
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let stack = Stack::shared();
    let body = json!({ "name": "short", "role": "viewer", "expires_in_s": 1 });
    let created = stack.owner("acme").post("/v1/tokens", body).await.expect(201);
    let caller = stack.caller(created["token"].as_str());
    // One second of life and five of leeway between clocks.
    let expired = async {
        while caller.get("/v1/sessions").await.status == 200 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let limit = std::time::Duration::from_secs(10);
    tokio::time::timeout(limit, expired).await.expect("it expires");
    assert_eq!(caller.get("/v1/sessions").await.status, 401);
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once() {
    let stack = Stack::shared();
    let body = json!({ "name": "gone", "role": "agent" });
    let created = stack.owner("acme").post("/v1/tokens", body).await.expect(201);
    let caller = stack.caller(created["token"].as_str());
    assert_eq!(caller.get("/v1/sessions").await.status, 200);
    let path = format!("/v1/tokens/{}", created["token_id"].as_str().unwrap());
    assert_eq!(stack.owner("acme").delete(&path).await.status, 204);
    assert_eq!(caller.get("/v1/sessions").await.status, 401);
}

#[tokio::test]
async fn a_body_that_does_not_fit_names_what_is_wrong() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/execs", session.id);
    let cases: [(Value, u16, &str, &str); 13] = [
        (json!(["true", null, {}]), 422, "invalid_body", "an array"),
        (json!("{"), 422, "malformed_json", "EOF"),
        (json!(""), 422, "malformed_json", "EOF"),
        (json!("{\"command\":\"true\"} x"), 422, "malformed_json", "trailing"),
        (json!({ "command": "true", "comand": 1 }), 422, "invalid_body", "comand"),
        (json!({ "tenant_id": "x", "command": "true" }), 422, "invalid_body", "tenant_id"),
        (json!({ "command": 7 }), 422, "invalid_body", "command"),
        (json!({}), 422, "invalid_body", "command"),
        (json!({ "command": "" }), 422, "invalid_command", "empty"),
        (json!({ "command": "a\0b" }), 422, "invalid_command", "NUL"),
        (json!({ "command": "true", "cwd": "relative" }), 422, "invalid_cwd", "absolute"),
        (json!({ "command": "true", "env": { "A=B": "x" } }), 422, "invalid_env", "names"),
        (json!({ "command": "true", "timeout_ms": 0 }), 422, "invalid_timeout", "between"),
    ];
    for (body, status, code, word) in cases {
        let answer = session.agent.post(&path, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}: {}", answer.text);
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(word), "{body}: {detail}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_limit() {
    let session = Stack::shared().session().await;
    let path = format!("/v1/sessions/{}/execs", session.id);
    let command = "x".repeat(64 * 1024 + 1);
    let answer = session.agent.post(&path, json!({ "command": command })).await;
    assert_eq!((answer.status, answer.code()), (413, "command_too_large"));
    let huge = "x".repeat(2 * 1024 * 1024);
    let answer = session.agent.post(&path, json!({ "command": huge })).await;
    assert_eq!((answer.status, answer.code()), (413, "body_too_large"));
}

#[tokio::test]
async fn a_command_at_the_limit_runs() {
    let session = Stack::shared().session().await;
    let mut command = String::from(": ");
    command.push_str(&"x".repeat(64 * 1024 - command.len()));
    let exec = session.run_approved(json!({ "command": command })).await;
    assert_eq!((&exec["state"], &exec["exit_code"]), (&json!("exited"), &json!(0)));
}

/// Scripts that are there to break whoever reads them.
fn hostile_scripts() -> Vec<String> {
    let many = "true && ".repeat(7_000) + "true";
    let deep = |open: &str, close: &str, times| open.repeat(times) + "ls" + &close.repeat(times);
    let mut scripts = vec![
        many,
        deep("(", ")", 20_000),
        deep("$(", ")", 15_000),
        deep("{ ", "; }", 10_000),
        deep("`", "`", 20_000),
        "\"".repeat(20_001),
        "a".repeat(60_000),
        "ls;".repeat(20_000),
        "\\\n".repeat(20_000),
    ];
    // Blanks, marks and letters that are not what they look like.
    for odd in ["\u{a0}", "\u{3000}", "\u{202e}", "\u{2066}", "\u{200b}", "\u{feff}", "\u{fe0f}"] {
        scripts.push(format!("ls {odd} src"));
        scripts.push(format!("ls{odd}"));
    }
    for script in
        ["\u{430}ls", "\u{ff4c}\u{ff53}", "c\u{430}t README.md", "ls \u{2010}la", "ls \u{ff1b} id"]
    {
        scripts.push(script.into());
    }
    scripts.extend(["ls \r id", "ls \u{1b}[2J", "ls \u{7f}", "ls\tsrc"].map(String::from));
    scripts
}

#[tokio::test]
async fn a_hostile_script_is_asked_about_in_bounded_time_and_says_why() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let reviewer = stack.reviewer("acme");
    let path = format!("/v1/sessions/{}/execs", session.id);
    for script in hostile_scripts() {
        let shown: String = script.chars().take(20).collect();
        let began = std::time::Instant::now();
        let body = json!({ "command": script });
        let answer = reviewer.post("/v1/policy/check", body.clone()).await.expect(200);
        assert_eq!(answer["decision"], "ask", "{shown:?}");
        let reason = answer["reasons"][0].as_str().unwrap_or_default();
        assert!(!reason.is_empty() && reason.len() < 500, "{shown:?}: {reason}");
        let explained = reviewer.post("/v1/policy/explain", body.clone()).await.expect(200);
        assert_eq!(explained["reasons"], answer["reasons"], "{shown:?}");
        let exec = session.agent.post(&path, body).await.expect(201);
        let exec = session.wait_until(&exec, |exec| !exec["decision"].is_null()).await;
        assert_eq!(exec["decision"]["outcome"], "ask", "{shown:?}");
        assert_eq!(exec["decision"]["reasons"], answer["reasons"], "{shown:?}");
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "{shown:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let execs = format!("/v1/sessions/{}/execs", session.id);
    let raw = async |caller: &tests::Caller, path: &str, body: &[u8]| {
        let request = caller.0.request(Method::POST, path);
        let request = request.header("content-type", "application/json").body(body.to_vec());
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.expect("a problem"))
    };
    let reviewer = stack.reviewer("acme");
    for bytes in
        [&b"ls \xff"[..], b"\xc0\xafls", b"ls \xed\xa0\x80", b"\xfe\xffl\x00s", b"ls \xe2\x80"]
    {
        let body = [b"{\"command\":\"", bytes, b"\"}"].concat();
        for (caller, path) in [
            (&session.agent, execs.as_str()),
            (&reviewer, "/v1/policy/check"),
            (&reviewer, "/v1/policy/explain"),
        ] {
            let (status, problem) = raw(caller, path, &body).await;
            assert_eq!((status, &problem["code"]), (422, &json!("malformed_json")), "{problem}");
            assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        }
    }
    // Half of a pair of surrogates is no character either.
    let (status, problem) = raw(&reviewer, "/v1/policy/check", br#"{"command":"ls \ud800"}"#).await;
    assert_eq!(status, 422, "{problem}");
}

#[test]
fn the_cli_refuses_arguments_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"ls \xff");
    for (arguments, code) in
        [(&["policy", "explain", "--"][..], 2), (&["exec", "--session", "ses_x", "--"], 125)]
    {
        let output = Stack::shared().cli(arguments).arg(odd).output().expect("starts");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("UTF-8"), "{output:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let stack = Stack::shared();
    let agent = stack.agent("acme");
    for path in [
        "/v1/nothing",
        "/nothing",
        "/v1/sessions/ses_00000000000000000000000000000000",
        "/v1/sessions/garbage",
        "/v1/execs/exe_0000",
        "/v1/approvals/apr_00000000000000000000000000000000",
    ] {
        let answer = agent.get(path).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{path}");
    }
    let answer = agent.call(Method::PATCH, "/v1/sessions", None).await;
    assert_eq!((answer.status, answer.code()), (405, "method_not_allowed"));
}

#[tokio::test]
async fn a_role_does_only_what_it_may() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let execs = format!("/v1/sessions/{}/execs", session.id);
    let body = json!({ "command": "true" });
    assert_eq!(stack.viewer("acme").post(&execs, body.clone()).await.status, 403);
    assert_eq!(stack.reviewer("acme").post(&execs, body.clone()).await.status, 403);
    assert_eq!(stack.platform().post(&execs, body).await.status, 403);
    assert_eq!(stack.platform().get("/v1/sessions").await.status, 403);
    assert_eq!(stack.agent("acme").get("/v1/audit/events").await.status, 403);
    assert_eq!(stack.agent("acme").get("/v1/tokens").await.status, 403);
    assert_eq!(stack.owner("acme").get("/v1/tenants").await.status, 403);
    let token = json!({ "name": "x", "role": "platform" });
    let answer = stack.owner("acme").post("/v1/tokens", token).await;
    assert_eq!((answer.status, answer.code()), (422, "invalid_role"));
    let enrol = json!({
        "executor_id": "exr_00000000000000000000000000000000", "version": "1", "host": "h",
        "image_digest": "sha256:0",
    });
    assert_eq!(stack.agent("acme").post("/v1/executors", enrol).await.status, 403);
}

#[tokio::test]
async fn impossible_sessions_are_refused() {
    let agent = Stack::shared().agent("acme");
    for (body, code) in [
        (json!({ "limits": { "pids": 1 } }), "invalid_limits"),
        (json!({ "limits": { "workspace_bytes": 1_u64 << 50 } }), "invalid_limits"),
        (json!({ "limits": { "cpus": 1 } }), "invalid_body"),
        (json!({ "image": "debian:latest" }), "unknown_image"),
        (json!({ "approval_mode": "never" }), "invalid_approval_mode"),
        (json!({ "name": "a\u{7}b" }), "invalid_name"),
    ] {
        let answer = agent.post("/v1/sessions", body.clone()).await;
        assert_eq!((answer.status, answer.code()), (422, code), "{body}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_connection_that_never_finishes_its_headers_is_ended() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = Stack::shared().dev().api_url.replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.expect("writes");
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    let limit = std::time::Duration::from_secs(20);
    let _ = tokio::time::timeout(limit, ended).await.expect("it is ended within the limit");
}
