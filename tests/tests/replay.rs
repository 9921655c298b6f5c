//! Recorded histories replay with today's workflow code. (`record-history` records them.)

use prost::Message;
use temporalio_client::WorkflowHistory;
use temporalio_common::protos::temporal::api::history::v1::History;
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};
use workflow::SessionWorkflow;

fn histories() -> Vec<(String, History)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/histories");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .expect("the histories are in the repository")
        .flatten()
        .map(|file| {
            let bytes = std::fs::read(file.path()).expect("readable");
            let history = History::decode(bytes.as_slice()).expect("a history");
            (file.file_name().to_string_lossy().into_owned(), history)
        })
        .collect();
    all.sort_by(|left, right| left.0.cmp(&right.0));
    all
}

fn replayer() -> WorkflowReplayer {
    let options = WorkflowReplayerOptions::new()
        .register_workflow::<SessionWorkflow>()
        .expect("registers")
        .build();
    WorkflowReplayer::new(options).expect("a replayer")
}

#[tokio::test]
async fn recorded_histories_replay() {
    let histories = histories();
    assert!(histories.len() >= 3, "{} histories", histories.len());
    for (name, history) in histories {
        let outcome = replayer().replay_workflow(WorkflowHistory::from(history)).await;
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
    }
}

/// The replay would notice: with its activities under another name, a history does not fit the code.
#[tokio::test]
async fn a_history_that_does_not_fit_is_noticed() {
    use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
    let mut noticed = 0;
    for (_, mut history) in histories() {
        for event in &mut history.events {
            if let Some(Attributes::ActivityTaskScheduledEventAttributes(scheduled)) =
                &mut event.attributes
                && let Some(kind) = &mut scheduled.activity_type
            {
                kind.name = "another_activity".into();
            }
        }
        let outcome = replayer().replay_workflow(WorkflowHistory::from(history)).await;
        noticed += usize::from(outcome.is_err());
    }
    assert!(noticed >= 3, "{noticed}");
}
