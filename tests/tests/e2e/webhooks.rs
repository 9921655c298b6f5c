//! Webhooks: signed calls that come until they are taken, to public addresses only.

use std::sync::OnceLock;
use std::time::Duration;

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tests::{Stack, TestSession, TestTenant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// One call as it came: its headers in lower case, and its body.
type Call = (String, String);

/// A stack that calls addresses of this machine.
fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    let allow = [("BULKHEAD_WEBHOOKS_ALLOW_PRIVATE", "true")];
    STACK.get_or_init(|| Stack::start_with("webhooks", &allow))
}

/// A server that refuses the first call and takes the others.
async fn server() -> (String, mpsc::Receiver<Call>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let url = format!("http://{}/hook?x=1", listener.local_addr().expect("an address"));
    let (sender, calls) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut status = "500 No";
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            let mut part = [0; 4096];
            loop {
                let read = stream.read(&mut part).await.unwrap_or(0);
                text.push_str(&String::from_utf8_lossy(&part[..read]));
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let head = head.to_lowercase();
                let length = head
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
                if read == 0 || length.is_some_and(|length| body.len() >= length) {
                    let _ = sender.send((head, body.to_owned())).await;
                    break;
                }
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
            status = "204 Taken";
        }
    });
    (url, calls)
}

async fn next(calls: &mut mpsc::Receiver<Call>) -> Call {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, calls.recv()).await.expect("in time").expect("a call")
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[tokio::test]
async fn a_call_is_signed_and_made_until_it_is_taken() {
    let stack = stack();
    let owner = stack.owner("acme");
    let (url, mut calls) = server().await;
    let body =
        json!({ "url": url, "events": ["approval.pending", "approval.voted", "session.closed"] });
    let made = owner.post("/v1/webhooks", body).await.expect(201);
    let secret = made["secret"].as_str().expect("shown once").to_owned();
    let listed = owner.get("/v1/webhooks").await.expect(200);
    assert!(listed["items"][0].get("secret").is_none(), "{listed}");

    let session = TestSession::create(stack, "acme").await;
    let exec = session.submit(json!({ "command": "touch asked; echo very-secret" })).await;
    let approval = session.approval_of(&exec).await;
    let (first, refused) = next(&mut calls).await;
    let (second, taken) = next(&mut calls).await;
    assert_eq!(refused, taken, "the same call again");
    let told: Value = serde_json::from_str(&taken).expect("JSON");
    assert_eq!((&told["event"], &told["subject"]), (&json!("approval.pending"), &json!(approval)));
    assert!(!taken.contains("very-secret"), "ids only");
    assert_eq!(header(&first, "bulkhead-delivery"), header(&second, "bulkhead-delivery"));
    let signed = format!("{}.{taken}", header(&second, "bulkhead-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(signed.as_bytes());
    let code = mac.finalize().into_bytes();
    let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header(&second, "bulkhead-signature"), format!("v1={hex}"));

    session.decide(&approval, "deny", None).await;
    let path = format!("/v1/sessions/{}", session.id);
    assert_eq!(session.agent.delete(&path).await.status, 202);
    let (_, closed) = next(&mut calls).await;
    let told: Value = serde_json::from_str(&closed).expect("JSON");
    assert_eq!((&told["event"], &told["subject"]), (&json!("session.closed"), &json!(session.id)));

    let path = format!("/v1/webhooks/{}", made["webhook_id"].as_str().expect("an id"));
    assert_eq!(owner.delete(&path).await.status, 204);
    let stranger = stack.owner("globex");
    assert_eq!(stranger.delete(&path).await.status, 404);
}

#[tokio::test]
async fn a_yes_that_needs_another_is_told_before_the_decision() {
    let stack = stack();
    let tenant = TestTenant::shared(stack).await;
    let two = r#"@id("two") @approvers("2") @reason("two people")
        forbid (principal, action == Action::"AutoApprove", resource);"#;
    tenant.put(two).await;
    let (url, mut calls) = server().await;
    let body = json!({ "url": url, "events": ["approval.voted", "approval.decided"] });
    let made = tenant.owner.post("/v1/webhooks", body).await.expect(201);
    let session = tenant.session().await;
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let id = session.approval_of(&exec).await;
    let path = format!("/v1/approvals/{id}/decision");
    let yes = json!({ "decision": "approve", "reason": "very-secret" });
    let mut said = Vec::new();
    session.reviewer.post(&path, yes.clone()).await.expect(200);
    let (_, refused) = next(&mut calls).await;
    said.push(next(&mut calls).await.1);
    assert_eq!(refused, said[0], "the same call again");
    tenant.another(stack, "reviewer").await.post(&path, yes).await.expect(200);
    said.push(next(&mut calls).await.1);
    for (body, event) in said.iter().zip(["approval.voted", "approval.decided"]) {
        let told: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&told["event"], &told["subject"]), (&json!(event), &json!(id)));
        assert!(!body.contains("very-secret"), "ids only");
    }
    assert_eq!(session.wait(&exec).await["state"], "exited");
    let path = format!("/v1/webhooks/{}", made["webhook_id"].as_str().expect("an id"));
    assert_eq!(tenant.owner.delete(&path).await.status, 204);
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused() {
    let owner = Stack::shared().owner("acme");
    for url in [
        "https://127.0.0.1/x",
        "https://localhost/x",
        "https://[::1]/x",
        "https://2130706433/x",
        "https://0x7f.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://user:secret@1.1.1.1/x",
        "http://1.1.1.1/x",
        "file:///etc/passwd",
        "gopher://1.1.1.1/x",
        "https://",
        "x",
    ] {
        let body = json!({ "url": url, "events": ["session.closed"] });
        let answer = owner.post("/v1/webhooks", body).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_url"), "{url}");
    }
    let body = json!({ "url": "https://1.1.1.1/x", "events": ["session.opened"] });
    assert_eq!(owner.post("/v1/webhooks", body).await.code(), "invalid_events");
}
