//! An executor that is lost: visible in the list, and the sessions that it has are told, once when
//! it falls silent and once when it is back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Caller, Stack, TestExecutor};

/// A session of a tenant, with its events.
struct Watched {
    owner: Caller,
    id: String,
    events: cli::client::EventStream,
}

impl Watched {
    async fn create(owner: &Caller) -> Self {
        let made = owner.post("/v1/sessions", json!({})).await.expect(201);
        let id = made["session_id"].as_str().expect("an id").to_owned();
        let events = owner.0.events(&id, 0);
        Self { owner: owner.clone(), id, events }
    }

    /// Posts a command and gives it as soon as it is over, or after a second.
    async fn post(&self, command: &str) -> Value {
        let path = format!("/v1/sessions/{}/execs", self.id);
        self.owner.post(&path, json!({ "command": command, "wait_ms": 20_000 })).await.expect(201)
    }

    /// The data of the next event about the executor, which has to be of this kind.
    async fn next_sighting(&mut self, kind: &str) -> Value {
        let next = async {
            loop {
                let event = self.events.next().await.expect("an event");
                if event.kind.starts_with("executor.") {
                    return event;
                }
            }
        };
        let event = tokio::time::timeout(Duration::from_secs(45), next).await.expect(kind);
        assert_eq!(event.kind, kind);
        Value::Object(event.data)
    }
}

#[tokio::test]
async fn sessions_are_told_when_their_executor_is_lost_and_when_it_is_back() {
    let stack = Stack::shared();
    let owner = stack.tenant("losing").await;
    let url = stack.dev().api_url;
    let env = [("BULKHEAD_POOL_SIZE", "0")];
    let mut executor = TestExecutor::start(stack, &url, &owner, "losing", &env).await;
    let (mut one, mut two) = (Watched::create(&owner).await, Watched::create(&owner).await);
    let idle = Watched::create(&owner).await;
    assert_eq!(one.post("echo before").await["stdout"]["head"], "before\n");
    assert_eq!(two.post("echo before").await["stdout"]["head"], "before\n");

    // It hangs: nothing ends, and nothing is said.
    executor.signal("STOP");
    let lost = executor.wait_for("lost").await;
    for watched in [&mut one, &mut two] {
        let data = watched.next_sighting("executor.silent").await;
        assert_eq!(data["executor_id"], lost["executor_id"]);
    }
    executor.signal("CONT");
    executor.wait_for("live").await;
    for watched in [&mut one, &mut two] {
        watched.next_sighting("executor.back").await;
    }
    assert_eq!(one.post("echo between").await["stdout"]["head"], "between\n");

    // It dies, and nobody starts it for a while.
    executor.kill();
    executor.wait_for("lost").await;
    for watched in [&mut one, &mut two] {
        watched.next_sighting("executor.silent").await;
    }
    executor.start_again().await;
    for watched in [&mut one, &mut two] {
        watched.next_sighting("executor.back").await;
    }
    assert_eq!(two.post("echo after").await["stdout"]["head"], "after\n");

    // A session that never had an executor is told nothing of any.
    let path = format!("/v1/sessions/{}", idle.id);
    let seen = {
        let mut events = owner.0.events(&idle.id, 0);
        owner.delete(&path).await;
        let mut seen = Vec::new();
        while let Ok(Ok(event)) = tokio::time::timeout(Duration::from_secs(5), events.next()).await
        {
            seen.push(event.kind.clone());
            if event.kind == "session.closed" {
                break;
            }
        }
        seen
    };
    assert!(seen.iter().all(|kind| !kind.starts_with("executor.")), "{seen:?}");
    assert!(seen.contains(&"session.closed".to_owned()), "{seen:?}");
}

#[tokio::test]
async fn a_command_is_given_up_with_its_executor_even_when_its_session_has_moved() {
    let stack = Stack::shared();
    let owner = stack.tenant("moving").await;
    let url = stack.dev().api_url;
    let env = [("BULKHEAD_POOL_SIZE", "0")];
    let mut executor = TestExecutor::start(stack, &url, &owner, "moving", &env).await;
    let session = Watched::create(&owner).await;
    let path = format!("/v1/sessions/{}/execs", session.id);
    let body = json!({ "command": "sleep 600", "background": true });
    let exec = owner.post(&path, body).await.expect(201);
    let path = format!("/v1/execs/{}", exec["exec_id"].as_str().expect("an id"));
    let deadline = Instant::now() + Duration::from_secs(45);
    let state = async |wanted: &str| {
        loop {
            let exec = owner.get(&path).await.expect(200);
            if exec["state"] == wanted {
                return exec;
            }
            assert!(Instant::now() < deadline, "not {wanted}: {exec}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    state("running").await;

    // Gone for an hour, and the session has moved in the same moment: to one that is there.
    executor.kill();
    let gone = executor.wait_for("lost").await;
    let gone = gone["executor_id"].as_str().expect("an id");
    let other = "exr_00000000000000000000000000000001";
    let tenant = stack.tenant_id("moving").await;
    let moved = format!(
        "BEGIN; SELECT set_config('app.tenant_id', '{tenant}', true);
         INSERT INTO executors (tenant_id, id, version, host, image_digest, last_seen_at)
         SELECT tenant_id, '{other}', version, host, image_digest, now() + interval '1 hour'
         FROM executors WHERE id = '{gone}';
         UPDATE executors SET last_seen_at = now() - interval '1 hour' WHERE id = '{gone}';
         UPDATE sessions SET executor_id = '{other}' WHERE id = '{}';
         COMMIT",
        session.id
    );
    stack.psql(&moved).expect("moves");
    state("lost").await;
}
