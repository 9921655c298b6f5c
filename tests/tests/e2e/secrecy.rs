//! Temporal's history and the logs show neither prompt, command nor output.

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
    let bytes = History { events: history }.encode_to_vec().to_ascii_lowercase();
    assert!(bytes.len() > 1000);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains(&session.id), "the history is the session's");
    assert!(!text.contains("confidential"), "plaintext in the history");

    let logs = std::fs::read_dir(stack.data_dir().join("logs")).expect("logs");
    for log in logs.flatten() {
        let text = std::fs::read_to_string(log.path()).expect("readable").to_ascii_lowercase();
        assert!(!text.contains("confidential"), "plaintext in {}", log.path().display());
        assert!(!text.contains("bh_ey"), "a token in {}", log.path().display());
    }
}
