//! A session under test.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Caller, Stack};

/// How long to wait for what happens soon.
const LIMIT: Duration = Duration::from_secs(90);

/// A session with those who work on it.
pub struct TestSession {
    /// Its id.
    pub id: String,
    /// Works.
    pub agent: Caller,
    /// Decides.
    pub reviewer: Caller,
}

impl TestSession {
    /// A new session of a tenant's agent.
    pub async fn create(stack: &Stack, tenant: &str) -> Self {
        let agent = stack.agent(tenant);
        let body = agent.post("/v1/sessions", json!({ "name": "test" })).await.expect(201);
        let id = body["session_id"].as_str().expect("an id").to_owned();
        Self { id, agent, reviewer: stack.reviewer(tenant) }
    }

    /// Another session of the same people.
    pub fn sibling(&self, id: String) -> Self {
        Self { id, agent: self.agent.clone(), reviewer: self.reviewer.clone() }
    }

    /// Posts a command that policy allows, and waits for its end.
    pub async fn run(&self, command: &str) -> Value {
        self.submit(json!({ "command": command, "wait_ms": 60_000 })).await
    }

    /// Posts an exec.
    pub async fn submit(&self, body: Value) -> Value {
        self.agent.post(&format!("/v1/sessions/{}/execs", self.id), body).await.expect(201)
    }

    /// Posts an exec, approves it if it asks, and waits for its end: for as long as it may take.
    pub async fn run_approved(&self, body: Value) -> Value {
        let timeout_ms = body["timeout_ms"].as_u64().unwrap_or_default();
        let exec = self.submit(body).await;
        let decided = |exec: &Value| exec["approval_id"].is_string() || !exec["decision"].is_null();
        let exec = self.wait_until(&exec, decided).await;
        if let Some(approval_id) = exec["approval_id"].as_str() {
            self.decide(approval_id, "approve", None).await;
        }
        let limit = LIMIT + Duration::from_millis(timeout_ms);
        self.wait_within(&exec, limit, |exec| exec["finished_at"].is_string()).await
    }

    /// The approval that an exec waits for, once it does.
    pub async fn approval_of(&self, exec: &Value) -> String {
        let exec = self.wait_until(exec, |exec| exec["approval_id"].is_string()).await;
        exec["approval_id"].as_str().expect("an id").to_owned()
    }

    /// Decides an approval.
    pub async fn decide(&self, approval_id: &str, decision: &str, reason: Option<&str>) -> Value {
        let path = format!("/v1/approvals/{approval_id}/decision");
        let body = json!({ "decision": decision, "reason": reason, "scope": "once" });
        self.reviewer.post(&path, body).await.expect(200)
    }

    /// Waits for the end of an exec.
    pub async fn wait(&self, exec: &Value) -> Value {
        self.wait_until(exec, |exec| exec["finished_at"].is_string()).await
    }

    /// Follows the session's events until an exec is as wanted.
    pub async fn wait_until(&self, exec: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_within(exec, LIMIT, wanted).await
    }

    async fn wait_within(
        &self,
        exec: &Value,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let id = exec["exec_id"].as_str().expect("an exec");
        let its_session = exec["session_id"].as_str().unwrap_or(&self.id);
        assert_eq!(its_session, self.id, "the events of another session tell nothing of it");
        let path = format!("/v1/execs/{id}");
        let mut events = self.agent.0.events(&self.id, 0);
        let mut seen = String::from("nothing");
        let look = async {
            loop {
                let now = self.agent.get(&path).await;
                // A control plane that is being restarted answers again soon.
                if now.status == 200 && wanted(&now.body) {
                    return now.body;
                }
                seen = format!("{now:?}");
                let _ = events.next().await;
            }
        };
        let found = tokio::time::timeout(limit, look).await;
        found.unwrap_or_else(|_| panic!("exec {id} did not become as wanted; it was {seen}"))
    }

    /// What the first event of a kind says, once there is one.
    pub async fn event(&self, kind: &str) -> Value {
        let mut events = self.agent.0.events(&self.id, 0);
        let look = async {
            loop {
                let event = events.next().await.expect("an event");
                if event.kind == kind {
                    return Value::Object(event.data);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), look).await.expect("the event comes")
    }

    /// Posts a turn and waits for its end.
    pub async fn turn(&self, input: &str) -> Value {
        let path = format!("/v1/sessions/{}/turns", self.id);
        let turn = self.agent.post(&path, json!({ "input": input })).await.expect(201);
        self.wait_turn(&turn).await
    }

    /// Follows the session's events until a turn is over.
    pub async fn wait_turn(&self, turn: &Value) -> Value {
        let path = format!("/v1/turns/{}", turn["turn_id"].as_str().expect("a turn"));
        let mut events = self.agent.0.events(&self.id, 0);
        let look = async {
            loop {
                let now = self.agent.get(&path).await;
                if now.status == 200 && now.body["finished_at"].is_string() {
                    return now.body;
                }
                let _ = events.next().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), look).await.expect("the turn ends")
    }

    /// All of an exec's stored output of one stream.
    pub async fn output(&self, exec: &Value, stream: &str) -> Vec<u8> {
        let id = exec["exec_id"].as_str().expect("an exec");
        let mut all = Vec::new();
        loop {
            let path =
                format!("/v1/execs/{id}/output?stream={stream}&offset={}&limit=1000000", all.len());
            let request = self.agent.0.request(reqwest::Method::GET, &path);
            let answer = request.send().await.expect("an answer");
            let complete = answer.headers()["x-output-complete"] == "true";
            let total: usize = answer.headers()["x-output-total"]
                .to_str()
                .expect("a number")
                .parse()
                .expect("a number");
            all.extend(answer.bytes().await.expect("the bytes"));
            if complete && all.len() >= total {
                return all;
            }
            // Long output may still be on its way from the executor.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
