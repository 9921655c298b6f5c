//! A hostile tenant and a hostile stranger at the front door: forged tokens, odd headers, odd paths,
//! odd bodies. Each is refused with a clear code, none is a server error, and the server stays well.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Replica, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends bytes as they are; gives the status of each answer, and all that came.
async fn raw(url: &str, bytes: &[u8]) -> (Vec<u16>, String) {
    let address = url.replace("http://", "");
    let mut stream = TcpStream::connect(address).await.expect("connects");
    // A server that has seen enough closes; what it said still counts.
    let _ = stream.write_all(bytes).await;
    let mut said = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut said)).await;
    let text = String::from_utf8_lossy(&said).into_owned();
    let lines = text.split("HTTP/1.1 ").skip(1);
    let statuses = lines.filter_map(|line| line.get(..3)?.parse().ok()).collect();
    (statuses, text)
}

/// Whether it still serves.
async fn is_well(stack: &Stack) {
    assert_eq!(stack.viewer("acme").get("/v1/sessions?limit=1").await.status, 200);
}

#[tokio::test]
async fn no_spelling_of_a_token_but_its_own_opens_anything() {
    let stack = Stack::shared();
    let dev = stack.dev();
    let (good, other) = (&dev.tenants["acme"].viewer_token, &dev.tenants["globex"].owner_token);
    let (head, rest) = good.split_once('.').expect("a JWT");
    let (claims, signature) = rest.split_once('.').expect("a JWT");
    let (other_head, other_rest) = other.split_once('.').expect("a JWT");
    let (other_claims, other_signature) = other_rest.split_once('.').expect("a JWT");
    let authorizations = [
        good.clone(),
        format!("bearer {good}"),
        format!("BEARER {good}"),
        format!("Bearer  {good}"),
        format!("Bearer\t{good}"),
        format!("Bearer {good} {other}"),
        format!("Bearer {good},Bearer {other}"),
        format!("Bearer \"{good}\""),
        format!("Basic {good}"),
        format!("Token {good}"),
        format!("Bearer {}", good.to_uppercase()),
        format!("Bearer bh_{good}"),
        format!("Bearer {good}."),
        format!("Bearer {good}=="),
        format!("Bearer {head}..{signature}"),
        format!("Bearer {head}.{claims}"),
        format!("Bearer {head}.{claims}.{other_signature}"),
        format!("Bearer {head}.{other_claims}.{signature}"),
        format!("Bearer {other_head}.{other_claims}.{signature}"),
        format!("Bearer {head}.{claims}.{signature}.{signature}"),
        format!("Bearer {head}.{claims}.{}", "A".repeat(signature.len())),
        format!("Bearer {head}.{}.{signature}", "A".repeat(100_000 / 4)),
        format!("Bearer bh_{}", ".".repeat(4000)),
        format!("Bearer bh_{}", "..".repeat(2)),
    ];
    for authorization in authorizations {
        let headers = [("authorization", authorization.as_str())];
        let answer = stack.anonymous().call_with(Method::GET, "/v1/sessions", None, &headers).await;
        let told = (answer.status, answer.code().to_owned());
        assert_eq!(told, (401, "unauthorized".into()), "{:.200}", authorization);
    }
    // Two headers: one of them may be what a proxy has looked at.
    for (one, two) in [(good, other), (other, good), (good, good)] {
        let request = format!(
            "GET /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {one}\r\n\
             Authorization: Bearer {two}\r\nConnection: close\r\n\r\n"
        );
        let (statuses, text) = raw(&dev.api_url, request.as_bytes()).await;
        assert_eq!(statuses, [401], "{text}");
    }
    // Nowhere else does a token count.
    for path in [
        format!("/v1/sessions?access_token={good}"),
        format!("/v1/sessions?token={good}"),
        format!("/v1/sessions#{good}"),
    ] {
        let status = stack.anonymous().get(&path).await.status;
        assert!([401, 404, 422].contains(&status), "{path}: {status}");
    }
    for header in ["cookie", "x-api-key", "proxy-authorization", "x-forwarded-authorization"] {
        let headers = [(header, good.as_str())];
        let answer = stack.anonymous().call_with(Method::GET, "/v1/sessions", None, &headers).await;
        assert_eq!(answer.status, 401, "{header}");
    }
    is_well(stack).await;
}

#[tokio::test]
async fn no_header_but_authorization_says_who_or_what() {
    let stack = Stack::shared();
    let globex = stack.tenant_id("globex").await;
    let session = stack.session().await;
    let viewer = stack.viewer("acme");
    let mine = viewer.get("/v1/usage").await.expect(200);
    for (name, value) in [
        ("x-tenant-id", globex.as_str()),
        ("tenant-id", &globex),
        ("x-bulkhead-tenant", &globex),
        ("x-role", "owner"),
        ("x-original-url", "/v1/tenants"),
        ("x-rewrite-url", "/v1/tenants"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1;host=evil.example"),
    ] {
        let headers = [(name, value)];
        let answer = viewer.call_with(Method::GET, "/v1/usage", None, &headers).await.expect(200);
        assert_eq!(answer["quota"], mine["quota"], "{name}");
    }
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let path = format!("/v1/sessions/{}", session.id);
        let headers = [(name, "DELETE")];
        let answer = session.agent.call_with(Method::GET, &path, None, &headers).await;
        assert_eq!((answer.status, &answer.body["state"]), (200, &json!("open")), "{name}");
    }
}

#[tokio::test]
async fn what_is_not_plain_http_is_refused_and_nothing_is_smuggled() {
    let stack = Stack::shared();
    let dev = stack.dev();
    let token = &dev.tenants["acme"].viewer_token;
    let auth = format!("Host: x\r\nAuthorization: Bearer {token}\r\n");
    let inner = format!("GET /v1/tokens HTTP/1.1\r\n{auth}\r\n");
    // Each with the one status that may come, and only one answer.
    let requests = [
        // Two lengths, a length and chunks, and lengths that are none.
        format!(
            "POST /v1/policy/check HTTP/1.1\r\n{auth}Content-Length: 4\r\nContent-Length: 5\r\n\r\n{{}}  {inner}"
        ),
        format!("POST /v1/policy/check HTTP/1.1\r\n{auth}Content-Length: -1\r\n\r\n{inner}"),
        format!("POST /v1/policy/check HTTP/1.1\r\n{auth}Content-Length: 0x10\r\n\r\n{inner}"),
        format!(
            "POST /v1/policy/check HTTP/1.1\r\n{auth}Content-Length: 99999999999999999999999\r\n\r\n"
        ),
        format!(
            "POST /v1/policy/check HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\nzz\r\n{inner}"
        ),
        format!(
            "POST /v1/policy/check HTTP/1.1\r\n{auth}Transfer-Encoding: identity, chunky\r\n\r\n{inner}"
        ),
        format!("GET /v1/usage HTTP/1.1\r\nHost : x\r\nAuthorization: Bearer {token}\r\n\r\n"),
        format!("GET /v1/usage HTTP/1.1\r\n{auth} folded: x\r\n\r\n"),
        format!("GET /v1/usage HTTP/1.1\r\n{auth}nul: a\0b\r\n\r\n"),
        format!("GET  /v1/usage HTTP/1.1\r\n{auth}\r\n"),
        format!("GET /v1/usage HTTP/9.9\r\n{auth}\r\n"),
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03".to_owned(),
        format!("GET /v1/usage HTTP/1.1\r\n{auth}{}\r\n", "a: b\r\n".repeat(2000)),
        format!("GET /v1/usage HTTP/1.1\r\n{auth}long: {}\r\n\r\n", "x".repeat(300_000)),
        format!("GET /v1/usage?{} HTTP/1.1\r\n{auth}\r\n", "x".repeat(100_000)),
    ];
    for request in requests {
        let (statuses, text) = raw(&dev.api_url, request.as_bytes()).await;
        let refused = |status: &u16| (400..500).contains(status);
        assert!(statuses.len() <= 1, "{:.300}\n{text}", request);
        assert!(statuses.iter().all(refused), "{:.300}\n{text}", request);
    }
    // A length and chunks at once: whoever stands between may have believed the other. Either it is
    // refused, or the chunks count and the connection ends with them.
    let both = format!(
        "POST /v1/policy/check HTTP/1.1\r\n{auth}Content-Length: 6\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
    );
    let (statuses, text) = raw(&dev.api_url, both.as_bytes()).await;
    assert!(statuses.len() <= 1 && statuses.iter().all(|status| *status >= 400), "{text}");
    // An absolute address and a foreign host change nothing.
    for line in ["GET http://evil.example/v1/usage HTTP/1.1", "GET /v1/usage HTTP/1.1"] {
        let request = format!(
            "{line}\r\nHost: evil.example\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let (statuses, text) = raw(&dev.api_url, request.as_bytes()).await;
        assert_eq!(statuses, [200], "{text}");
        assert!(!text.contains("evil"), "{text}");
    }
    for line in
        ["CONNECT evil.example:80", "TRACE /v1/usage", "PROPFIND /v1/usage", "GETX /v1/usage"]
    {
        let request = format!("{line} HTTP/1.1\r\n{auth}Connection: close\r\n\r\n");
        let (statuses, text) = raw(&dev.api_url, request.as_bytes()).await;
        assert!([vec![404], vec![405], vec![400]].contains(&statuses), "{line}: {text}");
        assert!(!text.contains(token.as_str()), "{line} shows the token");
    }
    is_well(stack).await;
}

#[tokio::test]
async fn a_thousand_requests_in_one_go_get_a_thousand_answers() {
    let stack = Stack::shared();
    let dev = stack.dev();
    let token = &dev.tenants["acme"].viewer_token;
    let one = format!("GET /v1/usage?x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    let mut all = format!("{one}\r\n").repeat(999);
    all.push_str(&format!("{one}Connection: close\r\n\r\n"));
    let address = dev.api_url.replace("http://", "");
    let stream = TcpStream::connect(address).await.expect("connects");
    let (mut reading, mut writing) = stream.into_split();
    let write = async { writing.write_all(all.as_bytes()).await.expect("writes") };
    let read = async {
        let mut said = Vec::new();
        reading.read_to_end(&mut said).await.expect("reads");
        said
    };
    let both = async { tokio::join!(write, read).1 };
    let said = tokio::time::timeout(Duration::from_secs(20), both).await.expect("in time");
    let text = String::from_utf8_lossy(&said);
    assert_eq!(text.matches("HTTP/1.1 422").count(), 1000);
    is_well(stack).await;
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_around_a_rule() {
    let stack = Stack::shared();
    let dev = stack.dev();
    let token = &dev.tenants["acme"].viewer_token;
    let session = stack.session().await;
    let id = &session.id;
    for path in [
        "/v1/sessions/../tenants".to_owned(),
        "/v1/sessions/..%2ftenants".into(),
        "/v1/./tenants".into(),
        "/v1/%2e%2e/v1/tenants".into(),
        "//v1/tenants".into(),
        "/v1//tenants".into(),
        "/v1/tenants/".into(),
        "/V1/tenants".into(),
        "/v1/tenants%00".into(),
        "/v1/tenants;x=1".into(),
        "/v1/tenants%20".into(),
        "/v1/tenants%0d%0aX:%20y".into(),
        "/v1/sessions%2f".into(),
        format!("/v1/sessions/{}", id.to_uppercase()),
        format!("/v1/sessions/%20{id}"),
        format!("/v1/sessions/{id}%00"),
        format!("/v1/sessions/{id}/"),
        format!("/v1/sessions/{}%2fexecs", id),
        "/v1/sessions/ses_%c0%ae".into(),
        "/v1/sessions/%ff%fe".into(),
        format!("/v1/sessions/{}", "a".repeat(10_000)),
        format!("/v1{}", "/a".repeat(10_000)),
        "/metrics/../v1/tenants".into(),
        "/healthz/%2e%2e/metrics".into(),
        "*".into(),
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let (statuses, text) = raw(&dev.api_url, request.as_bytes()).await;
        assert_eq!(statuses.len(), 1, "{:.100}: {text}", path);
        assert!([400, 403, 404, 405].contains(&statuses[0]), "{:.100}: {:.500}", path, text);
        // What a viewer may not have is not there, under whatever name.
        assert!(!text.contains("tenant_id"), "{:.100}: {:.500}", path, text);
    }
    is_well(stack).await;
}

/// A text of JSON, with what it is.
fn bombs() -> Vec<(&'static str, String)> {
    let deep = |open: &str, close: &str, n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
    let within = |value: &str| format!("{{\"command\":\"true\",\"env\":{value}}}");
    let many = (0..60_000).map(|n| format!("\"a{n}\":\"\"")).collect::<Vec<_>>().join(",");
    vec![
        ("lists in lists", deep("[", "]", 200_000)),
        ("objects in objects", format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))),
        ("never closed", "[".repeat(900_000)),
        ("deep where a text is expected", format!("{{\"command\":{}}}", deep("[", "]", 100_000))),
        ("deep in the environment", within(&format!("{{\"A\":{}}}", deep("[", "]", 5000)))),
        ("many variables", within(&format!("{{{many}}}"))),
        ("a number beyond numbers", "{\"command\":\"true\",\"timeout_ms\":1e999999}".into()),
        (
            "a long number",
            format!("{{\"command\":\"true\",\"timeout_ms\":{}}}", "9".repeat(900_000)),
        ),
        ("a negative number", "{\"command\":\"true\",\"timeout_ms\":-1}".into()),
        ("a fraction", "{\"command\":\"true\",\"timeout_ms\":0.5}".into()),
        ("a name twice", "{\"command\":\"true\",\"command\":\"false\"}".into()),
        ("half a surrogate", "{\"command\":\"\\ud800\"}".into()),
        ("a byte order mark", "\u{feff}{\"command\":\"true\"}".into()),
        ("a comment", "{\"command\":\"true\"/**/}".into()),
        ("NaN", "{\"command\":NaN}".into()),
        ("a name of a prototype", "{\"command\":\"true\",\"__proto__\":{}}".into()),
        ("a list", "[\"true\"]".into()),
        ("nothing", "null".into()),
        ("a variable's name with a line end", within("{\"A\\nB\":\"\"}")),
        ("a variable with NUL", within("{\"A\":\"\\u0000\"}")),
    ]
}

#[tokio::test]
async fn no_body_is_too_odd_to_be_refused() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let path = format!("/v1/sessions/{}/execs", session.id);
    for (name, text) in bombs() {
        let answer = session.agent.call(Method::POST, &path, Some(Value::String(text))).await;
        let refused = [400, 413, 422].contains(&answer.status);
        assert!(
            refused && !answer.code().is_empty(),
            "{name}: {} {:.300}",
            answer.status,
            answer.text
        );
        assert!(answer.text.len() < 2000, "{name}: {} bytes of an answer", answer.text.len());
    }
    let execs = session.agent.get(&path).await.expect(200);
    assert_eq!(execs["items"], json!([]), "nothing of it was taken for a command");
    is_well(stack).await;
}

#[tokio::test]
async fn a_tenant_with_many_tokens_has_no_more_streams() {
    let stack = Stack::shared();
    let env = [("BULKHEAD_STREAMS_PER_TENANT", "3")];
    let replica = Replica::start(stack, &env).await;
    let session = stack.session().await;
    let owner = stack.owner("acme");
    let path = format!("/v1/sessions/{}/events", session.id);
    let mut open = Vec::new();
    for round in 0..5 {
        let body = json!({ "name": "many", "role": "viewer" });
        let made = owner.post("/v1/tokens", body).await.expect(201);
        let viewer = replica.caller(made["token"].as_str());
        let stream = viewer.0.request(Method::GET, &path).send().await.expect("an answer");
        let status = stream.status().as_u16();
        assert_eq!(status, if round < 3 { 200 } else { 429 }, "stream {round}");
        if status == 429 {
            let text = stream.text().await.expect("a body");
            assert!(text.contains("too_many_streams") && text.contains("this tenant"), "{text}");
        } else {
            open.push(stream);
        }
    }
    // Another tenant's are its own.
    let made = stack.owner("globex").post("/v1/sessions", json!({})).await.expect(201);
    let path = format!("/v1/sessions/{}/events", made["session_id"].as_str().expect("an id"));
    let viewer = replica.caller(Some(&stack.dev().tenants["globex"].viewer_token));
    let stream = viewer.0.request(Method::GET, &path).send().await.expect("an answer");
    assert_eq!(stream.status().as_u16(), 200);
}

#[tokio::test]
async fn an_odd_place_in_a_stream_is_refused_or_empty() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let path = format!("/v1/sessions/{}/events", session.id);
    for (id, status) in [
        ("", 422),
        ("x", 422),
        ("1,2", 422),
        ("9223372036854775808", 422),
        ("0x1", 422),
        ("1e3", 422),
        ("9223372036854775807", 200),
        ("-9223372036854775808", 200),
    ] {
        let request = session.agent.0.request(Method::GET, &path).header("last-event-id", id);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{id}");
    }
}

#[tokio::test]
async fn an_executors_token_floods_nothing() {
    let stack = Stack::shared();
    let env = [("BULKHEAD_EXECUTOR_REQUESTS_PER_MINUTE", "30")];
    let replica = Replica::start(stack, &env).await;
    let owner = stack.tenant("flooding").await;
    let body = json!({ "name": "flood", "role": "executor" });
    let made = owner.post("/v1/tokens", body).await.expect(201);
    let executor = replica.caller(made["token"].as_str());
    let enrol = |n: u32, host: &str| {
        json!({
            "executor_id": format!("exr_{n:032x}"), "version": "1", "host": host,
            "image_digest": "sha256:0",
        })
    };
    let long = "h".repeat(100_000);
    for host in ["a\nb", "a\0b", &long] {
        let answer = executor.post("/v1/executors", enrol(1, host)).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_executor"));
    }
    let mut statuses = Vec::new();
    for n in 0..70 {
        statuses.push(executor.post("/v1/executors", enrol(n, "h")).await.status);
    }
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    // The tenant's people are not slowed down by it.
    assert_eq!(owner.get("/v1/usage").await.status, 200);
}

#[tokio::test]
async fn a_tenant_enrols_so_many_executors_and_no_more() {
    let stack = Stack::shared();
    let owner = stack.tenant("enrolling").await;
    let tenant = stack.tenant_id("enrolling").await;
    let body = json!({ "name": "enrol", "role": "executor" });
    let made = owner.post("/v1/tokens", body).await.expect(201);
    let executor = stack.caller(made["token"].as_str());
    stack
        .psql(&format!(
            "BEGIN; SELECT set_config('app.tenant_id', '{tenant}', true);
             INSERT INTO executors (tenant_id, id, version, host, image_digest, epoch)
             SELECT '{tenant}', 'exr_' || lpad(to_hex(n), 32, '0'), '1', 'h', 'sha256:0', 1
             FROM generate_series(1, 200) AS n; COMMIT"
        ))
        .expect("they are there");
    let enrol = |n: u32| {
        json!({
            "executor_id": format!("exr_{n:032x}"), "version": "1", "host": "h",
            "image_digest": "sha256:0",
        })
    };
    let answer = executor.post("/v1/executors", enrol(201)).await;
    assert_eq!((answer.status, answer.code()), (429, "too_many_executors"));
    // One of those that are there may start again.
    executor.post("/v1/executors", enrol(7)).await.expect(200);
}
