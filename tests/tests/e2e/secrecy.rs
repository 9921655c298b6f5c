//! Temporal's history and the logs show neither prompt, command nor output.

use base64::Engine as _;
use prost::Message;
use serde_json::json;
use temporalio_client::{Client, ClientOptions, Connection, ConnectionOptions};
use temporalio_common::protos::temporal::api::history::v1::History;
use tests::Stack;
use workflow::SessionWorkflow;

#[tokio::test]
async fn history_and_logs_hold_no_plaintext() {
    let stack = Stack::shared();
    let session = stack.session().await;
    session.turn("Confidential-prompt: run 'echo confidential-output'.").await;
    let command = "echo confidential-command; echo confidential-error >&2";
    let env = json!({ "CONFIDENTIAL": "confidential-value" });
    session.run_approved(json!({ "command": command, "env": env })).await;
    // What stands in a grant can be read by anybody who sees the history.
    let exec = session.submit(json!({ "command": "mkdir confidential-folder" })).await;
    session.decide(&session.approval_of(&exec).await, "approve", None).await;
    session.wait(&exec).await;
    // Long enough for its workflow, which commands go ahead of, to ask for it too.
    let exec = session.run("cd confidential-folder && ls && sleep 8").await;
    assert_eq!(exec["decision"]["decided_by"], "policy", "{exec}");
    let exec = session.run("cd confidential-folder && git status").await;
    assert_eq!(exec["decision"]["decided_by"], "policy", "{exec}");

    let address: temporalio_client::Url = stack.dev().temporal_address.parse().expect("an address");
    let options = ConnectionOptions::new(address).build();
    let connection = Connection::connect(options).await.expect("Temporal answers");
    let client = Client::new(connection, ClientOptions::new("default").build()).expect("a client");
    let id = format!("session/{}", session.id);
    let history = client
        .get_workflow_handle::<SessionWorkflow>(id)
        .fetch_history(Default::default())
        .into_events()
        .await
        .expect("a history");
    let bytes = History { events: history }.encode_to_vec();
    assert!(bytes.len() > 1000);
    let encoded = String::from_utf8_lossy(&bytes).into_owned();
    let text = encoded.to_ascii_lowercase();
    assert!(text.contains(&session.id), "the history is the session's");
    assert!(!text.contains("confidential"), "plaintext in the history");
    let grants: Vec<String> = encoded.split(|c: char| !is_base64url(c)).filter_map(read).collect();
    assert!(grants.iter().any(|grant| grant.contains("bulkhead-executor/checked")), "{grants:?}");
    assert!(!grants.iter().any(|grant| grant.contains("confidential")), "plaintext in a grant");

    let logs = std::fs::read_dir(stack.data_dir().join("logs")).expect("logs");
    for log in logs.flatten() {
        let text = std::fs::read_to_string(log.path()).expect("readable").to_ascii_lowercase();
        assert!(!text.contains("confidential"), "plaintext in {}", log.path().display());
        assert!(!text.contains("bh_ey"), "a token in {}", log.path().display());
    }
}

fn is_base64url(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// The JSON that a part of a token is.
fn read(part: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()?;
    String::from_utf8(bytes).ok().filter(|text| text.starts_with('{'))
}
