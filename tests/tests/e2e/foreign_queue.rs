//! An executor of one tenant with its hands on another tenant's task queue, where Temporal itself
//! lets everybody in: it can take a task away, and neither read it nor answer it.

use std::time::Duration;

use domain::exec::ExecOutcome;
use domain::ids::ExecId;
use protocol::binary::Binary;
use protocol::enrolment::Enrolment;
use protocol::exec::{
    ExecOrder, ExecResult, StreamSummary, ToolOutcome, ToolReply, ToolReport, ToolRequest,
    order_context, reply_context,
};
use protocol::sealed::Sealed;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use temporalio_client::tonic::IntoRequest as _;
use temporalio_client::{Connection, ConnectionOptions};
use temporalio_common::protos::temporal::api::common::v1::{Payload, Payloads};
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    PollActivityTaskQueueRequest, PollActivityTaskQueueResponse,
    RespondActivityTaskCompletedRequest,
};
use tests::{Caller, Stack, TestExecutor, TestSession};

const NAMESPACE: &str = "default";

/// What an executor of this tenant is given.
async fn enrol(stack: &Stack, owner: &Caller, id: &str) -> Enrolment {
    let body = json!({ "name": id, "role": "executor" });
    let made = owner.post("/v1/tokens", body).await.expect(201);
    let executor = stack.caller(made["token"].as_str());
    let body = json!({
        "executor_id": id, "version": "0", "host": "nowhere", "image_digest": "sha256:0",
    });
    let enrolment = executor.post("/v1/executors", body).await.expect(200);
    serde_json::from_value(enrolment).expect("an enrolment")
}

/// Takes the next task from a queue.
async fn poll(connection: &Connection, queue: &str) -> PollActivityTaskQueueResponse {
    let request = PollActivityTaskQueueRequest {
        namespace: NAMESPACE.into(),
        task_queue: Some(TaskQueue { name: queue.into(), ..Default::default() }),
        identity: "mallory".into(),
        ..Default::default()
    };
    let mut service = connection.workflow_service();
    let polled = service.poll_activity_task_queue(request.into_request());
    let polled = tokio::time::timeout(Duration::from_secs(60), polled).await;
    polled.expect("a task in time").expect("Temporal answers").into_inner()
}

/// Answers a task.
async fn answer(connection: &Connection, token: Vec<u8>, reply: &ToolReply) {
    let data = serde_json::to_vec(reply).expect("JSON");
    let metadata = [("encoding".to_owned(), b"json/plain".to_vec())].into();
    let payload = Payload { metadata, data, ..Default::default() };
    let request = RespondActivityTaskCompletedRequest {
        task_token: token,
        result: Some(Payloads { payloads: vec![payload] }),
        identity: "mallory".into(),
        namespace: NAMESPACE.into(),
        ..Default::default()
    };
    let mut service = connection.workflow_service();
    service.respond_activity_task_completed(request.into_request()).await.expect("is taken");
}

/// All went well, it says.
fn rosy(exec_id: ExecId, mallory: &Enrolment, request: &ToolRequest) -> ToolReply {
    let stream = |bytes: &[u8]| StreamSummary {
        bytes_total: bytes.len() as u64,
        bytes_stored: bytes.len() as u64,
        head: Binary(bytes.to_vec()),
        tail: Binary(Vec::new()),
        sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let result = ExecResult {
        outcome: ExecOutcome::Exited,
        exit_code: Some(0),
        signal: None,
        oom_killed: false,
        started_at_ms: 1_800_000_000_000,
        duration_ms: 5,
        survivors: 0,
        unended: 0,
        stdout: stream(b"forged\n"),
        stderr: stream(b""),
    };
    let executor_id = "exr_000000000000000000000000000000ab".parse().expect("an id");
    let outcome = ToolOutcome::Finished(result);
    let report = ToolReport { executor_id, sandbox: None, outcome };
    let key = sealing::Key::from_bytes(&mallory.payload_key.0).expect("a key");
    // For the tenant that it is meant for, with the only key that it has.
    let tenant_id = request.order.tenant_id;
    let sealed = sealing::seal(&key, tenant_id, &reply_context(exec_id), &report).expect("seals");
    ToolReply { report: sealed }
}

#[tokio::test]
async fn who_polls_a_foreign_queue_can_neither_read_nor_answer() {
    let stack = Stack::shared();
    let owner = stack.tenant("robbed").await;
    let env = [("BULKHEAD_POOL_SIZE", "0")];
    let url = stack.dev().api_url;
    let mut executor = TestExecutor::start(stack, &url, &owner, "robbed", &env).await;
    let made = owner.post("/v1/sessions", json!({})).await.expect(201);
    let session_id = made["session_id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/sessions/{session_id}/execs");
    let first = json!({ "command": "true", "wait_ms": 30_000 });
    assert_eq!(owner.post(&path, first).await.expect(201)["state"], "exited");
    let home = executor.wait_for("live").await["executor_id"].clone();
    executor.kill();

    let body = json!({ "command": "echo confidential-command", "background": true });
    let exec = owner.post(&path, body).await.expect(201);
    let mallory = stack.tenant("mallory").await;
    let mallory = enrol(stack, &mallory, "exr_000000000000000000000000000000ab").await;
    let address: temporalio_client::Url = mallory.temporal_address.parse().expect("an address");
    let connection = Connection::connect(ConnectionOptions::new(address).build()).await;
    let connection = connection.expect("Temporal lets everybody in");
    let queue = format!("tool-exec/robbed/{}", home.as_str().expect("an id"));
    let exec_id: ExecId = exec["exec_id"].as_str().expect("an id").parse().expect("an id");
    let (token, input, request) = loop {
        let task = poll(&connection, &queue).await;
        let input = task.input.expect("an input").payloads.remove(0);
        let request: ToolRequest = serde_json::from_slice(&input.data).expect("a request");
        // The first command went ahead of its task, which may have been left in the queue.
        if request.exec_id == exec_id {
            break (task.task_token, input, request);
        }
    };

    let text = String::from_utf8_lossy(&input.data).to_ascii_lowercase();
    assert!(!text.contains("confidential"), "plaintext in the task");
    let key = sealing::Key::from_bytes(&mallory.payload_key.0).expect("a key");
    for tenant_id in [request.order.tenant_id, mallory.tenant_id] {
        let sealed: &Sealed<ExecOrder> = &request.order;
        let opened = sealing::open(&key, tenant_id, &order_context(exec_id), sealed);
        assert!(opened.is_err(), "{tenant_id}");
    }

    answer(&connection, token, &rosy(exec_id, &mallory, &request)).await;
    let session = TestSession { id: session_id, agent: owner.clone(), reviewer: owner.clone() };
    let exec = session.wait(&exec).await;
    assert_eq!((&exec["state"], &exec["exit_code"]), (&json!("lost"), &Value::Null), "{exec}");
    assert!(!exec.to_string().contains("forged\\n"), "{exec}");
    let why = exec["error"]["message"].as_str().expect("a reason");
    assert!(why.contains("not its executor's"), "{why}");
}
