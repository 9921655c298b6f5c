//! `record-history TEMPORAL_ADDRESS SESSION_ID FILE`: writes a session's history as protobuf, for
//! the replay test. Histories hold ids and sealed values only, so they can be kept in public.

use anyhow::{Context, bail};
use prost::Message;
use temporalio_client::{Client, ClientOptions, Connection, ConnectionOptions};
use temporalio_common::protos::temporal::api::history::v1::History;
use workflow::SessionWorkflow;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, session_id, file] = arguments.as_slice() else {
        bail!("usage: record-history TEMPORAL_ADDRESS SESSION_ID FILE");
    };
    let options = ConnectionOptions::new(address.parse::<temporalio_client::Url>()?).build();
    let connection = Connection::connect(options).await.context("Temporal does not answer")?;
    let client = Client::new(connection, ClientOptions::new("default").build())?;
    let events = client
        .get_workflow_handle::<SessionWorkflow>(format!("session/{session_id}"))
        .fetch_history(Default::default())
        .into_events()
        .await?;
    std::fs::write(file, History { events }.encode_to_vec())?;
    Ok(())
}
