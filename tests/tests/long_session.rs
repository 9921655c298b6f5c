//! A session outgrows one run of its workflow: history stays bounded, and nothing is lost on the
//! way. The server is told to suggest a new run early.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use temporalio_client::{Client, ClientOptions, Connection, ConnectionOptions};
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use tests::{Stack, temporal_program};
use workflow::SessionWorkflow;

/// Events after which the server suggests a new run (4096 by default).
const SUGGEST_AFTER: usize = 60;
const COMMANDS: u64 = 40;

fn start() -> Stack {
    let script = std::env::temp_dir().join(format!("bulkhead-temporal-{}", std::process::id()));
    let text = format!(
        "#!/bin/sh\nexec '{}' \"$@\" --dynamic-config-value \
         limit.historyCount.suggestContinueAsNew={SUGGEST_AFTER}\n",
        temporal_program().display()
    );
    std::fs::write(&script, text).expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("runs");
    let path = script.to_str().expect("text").to_owned();
    Stack::start_with("long", &[("BULKHEAD_TEMPORAL", &path)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_session_goes_on_in_new_runs_with_its_question_open() {
    let stack = tokio::task::spawn_blocking(start).await.expect("the stack starts");
    let session = stack.session().await;
    let open = session.submit(json!({ "command": "touch asked; echo answered" })).await;
    let approval_id = session.approval_of(&open).await;
    for n in 0..COMMANDS {
        assert_eq!(session.run(&format!("echo {n}")).await["stdout"]["head"], format!("{n}\n"));
    }
    let turn = session.turn("run 'echo in a later run'").await;
    assert!(turn["answer"].as_str().is_some_and(|text| text.contains("in a later run")));

    let address: temporalio_client::Url = stack.dev().temporal_address.parse().expect("an address");
    let connection = Connection::connect(ConnectionOptions::new(address).build()).await;
    let options = ClientOptions::new("default").build();
    let client = Client::new(connection.expect("Temporal answers"), options).expect("a client");
    let handle = client.get_workflow_handle::<SessionWorkflow>(format!("session/{}", session.id));
    let history = handle.fetch_history(Default::default()).into_events().await;
    let history = history.expect("a history");
    let length = history.len();
    assert!(length < 3 * SUGGEST_AFTER, "{length} events in the newest run");
    let started = history.first().and_then(|event| event.attributes.as_ref());
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) = started else {
        panic!("a history begins with its start: {started:?}");
    };
    assert!(!started.continued_execution_run_id.is_empty(), "no run went before this one");
    let page = handle.query(SessionWorkflow::get_events_since, 0, Default::default()).await;
    let page = page.expect("the query is answered");
    assert!(page.watermark > COMMANDS, "numbering goes on over runs: {}", page.watermark);

    session.decide(&approval_id, "approve", None).await;
    assert_eq!(session.wait(&open).await["stdout"]["head"], "answered\n");
}
