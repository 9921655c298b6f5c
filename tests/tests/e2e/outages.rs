//! A part that is missing is named, and nothing that was accepted is lost.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tests::{Caller, Stack, bin_dir};

/// A second control plane on the shared database, pointed wherever a test wants.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    async fn start(database_url: &str, temporal_address: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let stack = Stack::shared();
        let process = Command::new(bin_dir().join("bulkhead-control-plane"))
            .arg("serve")
            .env("DATABASE_URL", database_url)
            .env("TEMPORAL_ADDRESS", temporal_address)
            .env("BULKHEAD_KEY_DIR", stack.data_dir().join("keys"))
            .env("BULKHEAD_LISTEN", format!("127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let server = Self { process, url: format!("http://127.0.0.1:{port}") };
        let up = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), up).await.expect("it listens");
        server
    }

    fn caller(&self, token: &str) -> Caller {
        Caller::new(&self.url, Some(token))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn without_temporal_a_command_is_refused_and_never_runs() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let dev = stack.dev();
    let server = Server::start(&dev.database_url, "http://127.0.0.1:9").await;
    let agent = server.caller(&dev.tenants["acme"].agent_token);
    let ready = server.caller(&dev.platform_token).get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("temporal"), "{}", ready.text);

    let path = format!("/v1/sessions/{}/execs", session.id);
    let answer = agent.post(&path, json!({ "command": "echo never" })).await;
    assert_eq!((answer.status, answer.code()), (503, "temporal_unavailable"));
    assert!(answer.body["detail"].as_str().is_some_and(|text| text.contains("TEMPORAL_ADDRESS")));

    // The other control plane's outbox may still deliver the message: to an exec that is over.
    session.run("true").await;
    let execs = session.agent.get(&path).await.expect(200);
    let refused = execs["items"]
        .as_array()
        .and_then(|items| items.iter().find(|exec| exec["command"] == "echo never").cloned())
        .expect("it is on record");
    assert_eq!(refused["state"], "cancelled");
    assert_eq!(refused["error"]["code"], "temporal_unavailable");
}

#[tokio::test]
async fn without_postgres_everything_is_refused_and_says_so() {
    let stack = Stack::shared();
    let dev = stack.dev();
    let nowhere = "postgres://bulkhead_app:x@127.0.0.1:9/bulkhead?sslmode=disable";
    let server = Server::start(nowhere, &dev.temporal_address).await;
    let answer = server.caller(&dev.tenants["acme"].agent_token).get("/v1/sessions").await;
    assert_eq!((answer.status, answer.code()), (503, "database_unavailable"));
    let ready = server.caller(&dev.platform_token).get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("postgres"), "{}", ready.text);
}

#[tokio::test]
async fn a_decision_made_while_temporal_is_away_arrives_later() {
    let stack = Stack::shared();
    let session = stack.session().await;
    let exec = session.submit(json!({ "command": "touch asked" })).await;
    let approval_id = session.approval_of(&exec).await;
    let dev = stack.dev();
    let server = Server::start(&dev.database_url, "http://127.0.0.1:9").await;
    let reviewer = server.caller(&dev.tenants["acme"].reviewer_token);
    let path = format!("/v1/approvals/{approval_id}/decision");
    reviewer.post(&path, json!({ "decision": "approve" })).await.expect(200);
    // The shared control plane finds the hint in the outbox.
    assert_eq!(session.wait(&exec).await["state"], "exited");
}

#[tokio::test]
async fn a_role_that_is_too_strong_is_refused_at_start() {
    let stack = Stack::shared();
    let secrets =
        std::fs::read_to_string(stack.data_dir().join("secrets/postgres.json")).expect("readable");
    let secrets: serde_json::Value = serde_json::from_str(&secrets).expect("JSON");
    let password = secrets["owner"].as_str().expect("the owner's password");
    let dev = stack.dev();
    let at = dev.database_url.split('@').nth(1).expect("an address");
    let url = format!("postgres://bulkhead_owner:{}@{at}", password);
    let output = Command::new(bin_dir().join("bulkhead-control-plane"))
        .arg("serve")
        .env("DATABASE_URL", url)
        .env("TEMPORAL_ADDRESS", &dev.temporal_address)
        .env("BULKHEAD_KEY_DIR", stack.data_dir().join("keys"))
        .env("BULKHEAD_LISTEN", "127.0.0.1:0")
        .output()
        .expect("it starts");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("too strong"), "{said}");
}
