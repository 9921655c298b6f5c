//! Work on files that goes wrong: answered soon, with what was wrong, and nothing is half done.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Stack, TestSession};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn at(session: &TestSession, path: &str) -> String {
    format!("/v1/sessions/{}/files/{path}", session.id)
}

/// Sends the beginning of an upload and no more; closes its half of the connection if told.
async fn break_off(session: &TestSession, headers: &str, body: &str, close: bool) -> String {
    let dev = Stack::shared().dev();
    let address = dev.api_url.trim_start_matches("http://");
    let token = &dev.tenants["acme"].agent_token;
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{headers}\r\n\r\n{body}",
        at(session, "broken")
    );
    let mut socket = TcpStream::connect(address).await.expect("connects");
    socket.write_all(head.as_bytes()).await.expect("sends");
    if close {
        socket.shutdown().await.expect("half");
    }
    let mut answer = vec![0; 4096];
    let count = socket.read(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_answered_and_leaves_nothing() {
    let session = Stack::shared().session().await;
    let chunked = "Transfer-Encoding: chunked";
    for (headers, body, close, most_s) in [
        ("Content-Length: 100", "abc", true, 5),
        (chunked, "3\r\nabc\r\nZZ\r\n", false, 5),
        (chunked, "3\r\nabc\r\n", true, 5),
        // It pauses.
        ("Content-Length: 100", "abc", false, 25),
    ] {
        let begin = Instant::now();
        let limit = Duration::from_secs(most_s);
        let answer = tokio::time::timeout(limit, break_off(&session, headers, body, close)).await;
        let answer = answer.expect("in time");
        // Whoever closes his half may have gone for good.
        let told = answer.starts_with("HTTP/1.1 400") && answer.contains("unreadable_body");
        assert!(told || (close && answer.is_empty()), "{headers} {body:?}: {answer}");
        assert!(begin.elapsed() < limit);
        assert_eq!(session.agent.get(&at(&session, "broken")).await.status, 404);
    }
    // Nobody waits for them any more.
    let begin = Instant::now();
    for n in 0..20 {
        let put = session.agent.call(Method::PUT, &at(&session, "whole"), Some(json!(n))).await;
        assert!(put.status == 200 || put.status == 201, "{put:?}");
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn parameters_that_fit_neither_method_nor_kind_are_refused() {
    let session = Stack::shared().session().await;
    session.agent.call(Method::PUT, &at(&session, "f"), Some(json!("kept"))).await;
    for (method, path, body, status, code) in [
        (Method::PUT, "d?kind=directory", Some(json!("x")), 400, "unexpected_body"),
        (Method::PUT, "d?kind=directory&mode=700", None, 422, "invalid_query"),
        (Method::PUT, "d?kind=tar&mode=700", None, 422, "invalid_query"),
        (Method::PUT, "d?recursive=true", None, 422, "invalid_query"),
        (Method::PUT, "f?mode=%2B644", Some(json!("x")), 422, "invalid_mode"),
        (Method::DELETE, "f?kind=stat", None, 422, "invalid_kind"),
        (Method::DELETE, "f?kind=directory", None, 422, "invalid_kind"),
        (Method::DELETE, "f?mode=600", None, 422, "invalid_query"),
        (Method::GET, "f?mode=600", None, 422, "invalid_query"),
        (Method::GET, "f?recursive=true", None, 422, "invalid_query"),
    ] {
        let answer = session.agent.call(method.clone(), &at(&session, path), body).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{method} {path}");
    }
    assert_eq!(session.agent.get(&at(&session, "f")).await.text, "kept");
    assert_eq!(session.agent.get(&at(&session, "d?kind=stat")).await.status, 404);
    for query in ["path=%ff", "path=a&after=%c3%28"] {
        let list = format!("/v1/sessions/{}/files?{query}", session.id);
        let answer = session.agent.get(&list).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_query"), "{query}");
    }
}

#[tokio::test]
async fn long_names_come_in_shorter_pages() {
    let session = Stack::shared().session().await;
    let make = "mkdir links; cd links; t=$(printf 'x%.0s' $(seq 4000)); \
                for n in $(seq 300); do ln -s $t $n; done";
    let made = session.run_approved(json!({ "command": make })).await;
    assert_eq!(made["exit_code"], 0, "{made}");
    let (mut seen, mut after, mut pages) = (0, String::new(), 0);
    loop {
        let path = format!("/v1/sessions/{}/files?path=links{after}", session.id);
        let page = session.agent.get(&path).await.expect(200);
        let entries = page["entries"].as_array().expect("entries");
        seen += entries.len();
        pages += 1;
        if page["more"] == false {
            break;
        }
        let last = entries.last().and_then(|entry| entry["name"].as_str()).expect("a name");
        after = format!("&after={last}");
    }
    assert_eq!(seen, 300);
    assert!(pages > 1, "{pages}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_packed_says_why() {
    let session = Stack::shared().session().await;
    let put = at(&session, "d/secret?mode=0");
    assert_eq!(session.agent.call(Method::PUT, &put, Some(json!("x"))).await.status, 201);
    for _ in 0..10 {
        let answer = session.agent.get(&at(&session, "d?kind=tar")).await;
        assert_eq!((answer.status, answer.code()), (403, "permission_denied"));
        let body: Value = serde_json::from_str(&answer.text).expect("JSON");
        assert!(body["detail"].as_str().is_some_and(|it| it.contains("secret")), "{body}");
    }
}

#[tokio::test]
async fn changes_do_not_wait_for_git_for_ever() {
    let session = Stack::shared().session().await;
    let make = "git init -q r && cd r && mkfifo .gitignore";
    let made = session.run_approved(json!({ "command": make })).await;
    assert_eq!(made["exit_code"], 0, "{made}");
    // It reads a pipe that nobody writes to.
    let git = json!({ "command": "git status", "cwd": "/work/r", "timeout_ms": 60_000 });
    let git = session.submit(git).await;
    session.wait_until(&git, |exec| exec["state"] == "running").await;
    let begin = Instant::now();
    let put = session.agent.call(Method::PUT, &at(&session, "f"), Some(json!("x"))).await;
    assert_eq!((put.status, put.code()), (409, "workspace_busy"));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let cancel = format!("/v1/execs/{}/cancel", git["exec_id"].as_str().expect("its id"));
    session.agent.post(&cancel, json!({})).await.expect(200);
    let put = session.agent.call(Method::PUT, &at(&session, "f"), Some(json!("x"))).await;
    assert_eq!(put.status, 201);
}

/// Stops and kills whatever it may, for as long as it runs.
const STORM: &str = "while :; do kill -STOP -1; kill -KILL -1; done 2>/dev/null";

#[tokio::test]
async fn work_on_files_goes_on_in_a_storm_of_signals() {
    let session = Stack::shared().session().await;
    let storm = session.submit(json!({ "command": STORM, "background": true })).await;
    if storm["state"] == "pending_approval" {
        session.decide(&session.approval_of(&storm).await, "approve", None).await;
    }
    session.wait_until(&storm, |exec| exec["state"] == "running").await;
    for n in 0..10 {
        let begin = Instant::now();
        let path = at(&session, &format!("d{n}/f"));
        let put = session.agent.call(Method::PUT, &path, Some(json!(n))).await;
        assert_eq!(put.status, 201, "{put:?}");
        assert_eq!(session.agent.get(&path).await.text, n.to_string());
        let listed = session.agent.get(&at(&session, "d0?kind=stat")).await.expect(200);
        assert_eq!(listed["entry"]["kind"], "directory", "{listed}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
    let cancel = format!("/v1/execs/{}/cancel", storm["exec_id"].as_str().expect("its id"));
    session.agent.post(&cancel, json!({})).await.expect(200);
    let over = session.wait_until(&storm, |exec| exec["finished_at"].is_string()).await;
    assert_eq!(over["state"], "cancelled", "{over}");
}

#[tokio::test]
async fn a_compressed_body_is_refused_and_not_stored() {
    let session = Stack::shared().session().await;
    let gzip = [("content-encoding", "gzip")];
    let path = at(&session, "f");
    let put = session.agent.call_with(Method::PUT, &path, Some(json!("x")), &gzip).await;
    assert_eq!((put.status, put.code()), (415, "unsupported_encoding"));
    assert_eq!(session.agent.get(&path).await.status, 404);
    let execs = format!("/v1/sessions/{}/execs", session.id);
    let body = Some(json!({ "command": "true" }));
    let post = session.agent.call_with(Method::POST, &execs, body, &gzip).await;
    assert_eq!((post.status, post.code()), (415, "unsupported_encoding"));
    let plain = [("content-encoding", "identity")];
    let put = session.agent.call_with(Method::PUT, &path, Some(json!("x")), &plain).await;
    assert_eq!(put.status, 201);
}
