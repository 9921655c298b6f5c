//! Files that reach for what they must not.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Stack, TestSession};

use crate::canary::Canary;
use crate::cases::command;

pub const IDS: &[&str] = &["HC-084", "HC-086", "HC-088", "HC-089", "HC-091", "HC-104"];

struct Got {
    status: u16,
    code: String,
    headers: reqwest::header::HeaderMap,
    bytes: Vec<u8>,
}

async fn call(session: &TestSession, method: Method, path: &str, body: Option<Vec<u8>>) -> Got {
    try_call(session, method, path, body.unwrap_or_default()).await.expect("an answer")
}

async fn try_call(
    session: &TestSession,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> reqwest::Result<Got> {
    let request =
        session.agent.0.request(method, &format!("/v1/sessions/{}/files{path}", session.id));
    let answer = request.timeout(Duration::from_secs(60)).body(body).send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let bytes = answer.bytes().await?.to_vec();
    let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let code = json["code"].as_str().unwrap_or_default().to_owned();
    Ok(Got { status, code, headers, bytes })
}

/// The answer to a body that is refused before it has been read: a client that is still writing may
/// find the connection closed, and the answer lost.
async fn refused(session: &TestSession, path: &str, body: &[u8]) -> Got {
    for _ in 0..10 {
        if let Ok(got) = try_call(session, Method::PUT, path, body.to_vec()).await {
            return got;
        }
    }
    panic!("{path}: no answer in ten tries");
}

/// One tar entry as raw bytes, so that no library has a say in its name.
fn entry(name: &str, kind: u8, link: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().div_ceil(512) * 512, 0);
    bytes
}

#[tokio::test]
async fn hc_084_an_unsafe_archive_writes_nothing() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let cases: [(&str, Vec<Vec<u8>>); 7] = [
        ("../../etc/cron.d/x", vec![entry("../../etc/cron.d/x", b'0', "", 0o644, b"x")]),
        ("/etc/x", vec![entry("/etc/x", b'0', "", 0o644, b"x")]),
        ("a", vec![entry("a", b'2', "/", 0o777, b""), entry("a/etc/x", b'0', "", 0o644, b"x")]),
        ("out", vec![entry("out", b'2', "../../etc", 0o777, b"")]),
        ("hard", vec![entry("hard", b'1', "/etc/passwd", 0o644, b"")]),
        ("dev", vec![entry("dev", b'3', "", 0o644, b"")]),
        ("suid", vec![entry("suid", b'0', "", 0o4755, b"x")]),
    ];
    for (name, entries) in cases {
        let mut archive = entry("first", b'0', "", 0o644, b"fine");
        archive.extend(entries.concat());
        archive.resize(archive.len() + 1024, 0);
        let got = call(&session, Method::PUT, "/box?kind=tar", Some(archive)).await;
        let text = String::from_utf8_lossy(&got.bytes).into_owned();
        assert_eq!(
            (got.status, got.code.as_str()),
            (400, "unsafe_archive_entry"),
            "{name}: {text}"
        );
        assert!(text.contains(name), "the entry is named: {text}");
        let listed = call(&session, Method::GET, "?path=box", None).await;
        assert!(
            !String::from_utf8_lossy(&listed.bytes).contains("first"),
            "{name}: nothing is written"
        );
    }
    canary.assert_unharmed("hc_084_an_unsafe_archive_writes_nothing").await;
}

#[tokio::test]
async fn hc_086_names_are_bytes() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let long = format!("/{}", "a".repeat(300));
    for path in ["/..%2Fx", "/%2Fabs", "/a%00b", long.as_str()] {
        let got = call(&session, Method::PUT, path, Some(b"x".to_vec())).await;
        assert_eq!(got.status, 400, "{path}: {}", String::from_utf8_lossy(&got.bytes));
    }
    for path in ["/a%0Ab", "/CON", "/%E2%80%AEgnp.exe", "/-rf", "/$(id)", "/%20", "/'\"%60"] {
        let got = call(&session, Method::PUT, path, Some(path.as_bytes().to_vec())).await;
        assert_eq!(got.status, 201, "{path}: {}", String::from_utf8_lossy(&got.bytes));
        let got = call(&session, Method::GET, path, None).await;
        assert_eq!((got.status, got.bytes), (200, path.as_bytes().to_vec()), "{path}");
    }
    let listed = call(&session, Method::GET, "", None).await;
    let listed: Value = serde_json::from_slice(&listed.bytes).expect("JSON");
    let names: Vec<&str> = listed["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .filter_map(|e| e["name"].as_str())
        .collect();
    assert_eq!(names, [" ", "$(id)", "'\"`", "-rf", "CON", "a\nb", "\u{202e}gnp.exe"]);
    canary.assert_unharmed("hc_086_names_are_bytes").await;
}

#[tokio::test]
async fn hc_088_what_is_no_file_is_refused_at_once() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let script = "ln -s /proc/self/root/etc/passwd p; ln -s /proc/1/environ e; mkfifo f; \
                  ln -s /dev/zero z; ln -s nowhere n; ln -s ../etc/passwd u; \
                  python3 -c 'import socket; socket.socket(1).bind(\"s\")'";
    session.run_approved(json!({ "command": script })).await;
    let (outside, special) = ((400, "path_outside"), (400, "not_regular_file"));
    for (name, expected) in [
        ("p", outside),
        ("e", outside),
        ("f", special),
        ("s", special),
        ("z", outside),
        ("n", (404, "file_not_found")),
        ("u", outside),
    ] {
        let begun = Instant::now();
        let got = call(&session, Method::GET, &format!("/{name}"), None).await;
        assert_eq!((got.status, got.code.as_str()), expected, "{name}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{name}: {:?}", begun.elapsed());
    }
    canary.assert_unharmed("hc_088_what_is_no_file_is_refused_at_once").await;
}

#[tokio::test]
async fn hc_089_a_race_of_links_gives_nothing_away() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let script = "echo mine > ok; while :; do ln -sfn /etc/hostname d; ln -sfn ok d; done";
    let exec = session.submit(json!({ "command": script, "background": true })).await;
    let approval = session.approval_of(&exec).await;
    session.decide(&approval, "approve", None).await;
    session.wait_until(&exec, |exec| exec["state"] == "running").await;
    let all = std::env::var_os("BULKHEAD_TEST_ALL").is_some();
    let (mut mine, mut refused) = (0, 0);
    for _ in 0..if all { 1000 } else { 150 } {
        let got = call(&session, Method::GET, "/d", None).await;
        match got.status {
            200 => {
                assert_eq!(got.bytes, b"mine\n");
                mine += 1;
            }
            _ => refused += 1,
        }
    }
    assert!(mine > 0 && refused > 0, "both sides of the race were seen: {mine} {refused}");
    let id = exec["exec_id"].as_str().expect("an id");
    session.agent.post(&format!("/v1/execs/{id}/cancel"), json!({})).await.expect(200);
    canary.assert_unharmed("hc_089_a_race_of_links_gives_nothing_away").await;
}

#[tokio::test]
async fn hc_091_a_page_is_an_attachment() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let page = b"<script>alert(1)</script>".to_vec();
    call(&session, Method::PUT, "/page.html", Some(page.clone())).await;
    let got = call(&session, Method::GET, "/page.html", None).await;
    assert_eq!(got.bytes, page);
    let header = |name: &str| got.headers[name].to_str().expect("text").to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("content-disposition"), "attachment");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("content-security-policy").contains("sandbox"));
    canary.assert_unharmed("hc_091_a_page_is_an_attachment").await;
}

#[tokio::test]
async fn hc_104_lines_do_not_split_names() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let script = command("HC-104").split("; list").next().expect("a command").to_owned();
    session.run_approved(json!({ "command": script })).await;
    let listed = call(&session, Method::GET, "", None).await;
    let listed: Value = serde_json::from_slice(&listed.bytes).expect("JSON");
    let entries = listed["entries"].as_array().expect("entries");
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
    assert_eq!(names, ["\u{1b}[31m", "-rf", "a\nb"]);
    canary.assert_unharmed("hc_104_lines_do_not_split_names").await;
}

#[tokio::test]
async fn hc_017_a_sparse_giant_is_not_copied() {
    let canary = Canary::start().await;
    let agent = Stack::shared().agent("acme");
    let body = json!({ "limits": { "workspace_bytes": 1_u64 << 30 } });
    let made = agent.post("/v1/sessions", body).await.expect(201);
    let id = made["session_id"].as_str().expect("an id").to_owned();
    let session = TestSession { id, agent, reviewer: Stack::shared().reviewer("acme") };
    // It may be larger than what is downloaded of a file, and takes no place where nothing is in it.
    let script = "truncate -s 900M x && truncate -s 1T y";
    let exec = session.run_approved(json!({ "command": script })).await;
    assert_eq!(exec["signal"], 25, "the second one is too large for any workspace: {exec}");
    for path in ["/x", "?kind=tar"] {
        let begun = Instant::now();
        let got = call(&session, Method::GET, path, None).await;
        assert_eq!((got.status, got.code.as_str()), (413, "file_too_large"), "{path}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}");
    }
    // What is too large to be stored is refused as it comes, and nothing of it stays.
    let many = vec![0_u8; (256 << 20) + 1];
    let got = refused(&session, "/put", &many).await;
    assert_eq!((got.status, got.code.as_str()), (413, "file_too_large"), "{}", got.bytes.len());
    let listed = call(&session, Method::GET, "", None).await;
    assert!(!String::from_utf8_lossy(&listed.bytes).contains("put"), "nothing of it is there");
    canary.assert_unharmed("hc_017_a_sparse_giant_is_not_copied").await;
}
