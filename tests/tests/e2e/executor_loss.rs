//! An executor that is lost: visible in the list, and the sessions that it has are told, once when
//! it falls silent and once when it is back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Caller, Stack, TestExecutor, TestSession};

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

    /// Posts a command that nobody waits for, and gives it once it is as wanted.
    async fn begin(&self, command: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/sessions/{}/execs", self.id);
        let body = json!({ "command": command, "background": true });
        let exec = self.owner.post(&path, body).await.expect(201);
        self.until(&exec, wanted).await
    }

    /// Looks at an exec until it is as wanted.
    async fn until(&self, exec: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/execs/{}", exec["exec_id"].as_str().expect("an id"));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let exec = self.owner.get(&path).await.expect(200);
            if wanted(&exec) {
                return exec;
            }
            assert!(Instant::now() < deadline, "not as wanted: {exec}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the log says that an exec is refused.
    async fn recalled(&self, exec: &Value) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let refusal = |event: &Value| {
            event["object"] == exec["exec_id"]
                && event["action"] == "exec.authorize"
                && event["outcome"] == "deny"
        };
        while !self.owner.audit_of(&self.id).await.iter().any(refusal) {
            assert!(Instant::now() < deadline, "not recalled: {exec}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
    let says_so = |exec: &Value| {
        exec["waiting_reason"].as_str().is_some_and(|reason| reason.contains("does not answer"))
    };
    let waiting = two.begin("echo waiting", says_so).await;
    let listed = owner.get(&format!("/v1/sessions/{}/execs", two.id)).await.expect(200);
    assert!(says_so(&listed["items"][0]), "{listed}");
    executor.start_again().await;
    let waited = two.until(&waiting, |exec| exec["state"] == "exited").await;
    assert_eq!(waited["waiting_reason"], Value::Null);
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
    let exec = session.begin("sleep 600", |exec| exec["state"] == "running").await;

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
    session.until(&exec, |exec| exec["state"] == "lost").await;
}

/// Reads are allowed, but one program asks and one must not run.
const STRICTER: &str = r#"
@id("reads") permit (principal, action == Action::"AutoApprove", resource)
when { context.understood && ["read"].containsAll(context.effects) && context.program != "seq" };

@id("no-echo") @reason("no echo any more")
forbid (principal, action == Action::"Run", resource) when { context.program == "echo" };
"#;

#[tokio::test]
async fn what_an_executor_has_not_started_is_recalled_by_a_stricter_policy() {
    let stack = Stack::shared();
    let owner = stack.tenant("recalling").await;
    let url = stack.dev().api_url;
    let env = [("BULKHEAD_POOL_SIZE", "0")];
    let mut executor = TestExecutor::start(stack, &url, &owner, "recalling", &env).await;
    let session = Watched::create(&owner).await;
    let running = session.begin("sleep 600", |exec| exec["state"] == "running").await;

    // Its executor is away when these are allowed, and when the policy changes.
    executor.kill();
    let allowed = |exec: &Value| exec["decision"]["outcome"] == "allow";
    let forbidden = session.begin("echo recalled", allowed).await;
    let asked = session.begin("seq 3", allowed).await;
    let still = session.begin("pwd", allowed).await;
    let body = Some(json!({ "text": STRICTER }));
    owner.call(reqwest::Method::PUT, "/v1/policy", body).await.expect(200);
    session.recalled(&forbidden).await;
    session.recalled(&asked).await;
    executor.start_again().await;

    let over = |exec: &Value| exec["finished_at"].is_string();
    let forbidden = session.until(&forbidden, over).await;
    assert_eq!(forbidden["state"], "denied", "{forbidden}");
    assert_eq!(forbidden["error"]["message"], "no echo any more");
    assert_eq!(forbidden["decision"]["policy_version"], 1);
    assert_eq!(forbidden["started_at"], Value::Null);
    let asked = session.until(&asked, over).await;
    assert_eq!(asked["state"], "denied", "{asked}");
    let why = asked["error"]["message"].as_str().expect("a reason");
    assert!(why.contains("version 1 asks for more; submit it again"), "{why}");
    let still = session.until(&still, over).await;
    assert_eq!((&still["state"], &still["stdout"]["head"]), (&json!("exited"), &json!("/work\n")));

    // Who reads the log sees both decisions, and one end.
    let events = owner.audit_of(&session.id).await;
    let of_echo = |event: &&Value| event["object"] == forbidden["exec_id"];
    let seen: Vec<_> =
        events.iter().filter(of_echo).map(|e| (&e["action"], &e["outcome"])).collect();
    let expected = [
        ("exec.create", "ok"),
        ("exec.authorize", "allow"),
        ("exec.authorize", "deny"),
        ("exec.finish", "denied"),
    ];
    let expected: Vec<_> = expected.iter().map(|(a, o)| (json!(a), json!(o))).collect();
    assert_eq!(seen, expected.iter().map(|(a, o)| (a, o)).collect::<Vec<_>>());

    // What had started goes on, whatever policy says now.
    let running = session.until(&running, |_| true).await;
    assert_eq!(running["state"], "running");
    let path = format!("/v1/execs/{}/cancel", running["exec_id"].as_str().expect("an id"));
    owner.post(&path, json!({})).await.expect(200);
    assert_eq!(session.until(&running, over).await["state"], "cancelled");
}

#[tokio::test]
async fn what_was_granted_to_one_executor_is_never_granted_to_another() {
    let stack = Stack::shared();
    let owner = stack.tenant("granting").await;
    let url = stack.dev().api_url;
    let env = [("BULKHEAD_POOL_SIZE", "0")];
    let mut executor = TestExecutor::start(stack, &url, &owner, "granting", &env).await;
    let session = Watched::create(&owner).await;
    assert_eq!(session.post("echo before").await["stdout"]["head"], "before\n");
    let first = executor.wait_for("live").await["executor_id"].clone();
    executor.kill();
    let exec = session.begin("echo once", |exec| exec["decision"]["outcome"] == "allow").await;

    // Its session moves to an executor that is there, and hungry for work.
    let mut other = TestExecutor::spawn(stack, &url, &owner, "granting-other", &env).await;
    let listed = other
        .wait_until(|items| {
            items.len() == 2
                && items
                    .iter()
                    .any(|executor| executor["state"] == "live" && executor["executor_id"] != first)
        })
        .await;
    let second = listed.iter().find(|executor| executor["executor_id"] != first).expect("two");
    let tenant = stack.tenant_id("granting").await;
    let moved = format!(
        "BEGIN; SELECT set_config('app.tenant_id', '{tenant}', true);
         UPDATE executors SET last_seen_at = now() - interval '1 hour' WHERE id = '{}';
         UPDATE sessions SET executor_id = '{}' WHERE id = '{}';
         COMMIT",
        first.as_str().expect("an id"),
        second["executor_id"].as_str().expect("an id"),
        session.id
    );
    stack.psql(&moved).expect("moves");
    let exec = session.until(&exec, |exec| exec["finished_at"].is_string()).await;
    assert_eq!(exec["state"], "lost", "{exec}");
    let never = (&exec["started_at"], &exec["stdout"]["bytes_total"]);
    assert_eq!(never, (&Value::Null, &json!(0)), "{exec}");
    // The session works on, at its new home.
    assert_eq!(session.post("echo after").await["stdout"]["head"], "after\n");
    other.kill();
}

/// One program is asked about.
const ASKS: &str = r#"
@id("touching") forbid (principal, action == Action::"AutoApprove", resource)
when { context.program == "touch" };
"#;
/// The same rule has become a refusal.
const REFUSES: &str = r#"
@id("touching") @reason("not at all any more")
forbid (principal, action == Action::"Run", resource) when { context.program == "touch" };
"#;

#[tokio::test]
async fn an_answer_for_the_session_does_not_outrank_a_refusal_that_came_later() {
    let stack = Stack::shared();
    let owner = stack.tenant("refusing").await;
    let url = stack.dev().api_url;
    let env = [("BULKHEAD_POOL_SIZE", "0")];
    let mut executor = TestExecutor::start(stack, &url, &owner, "refusing", &env).await;
    let put = async |text: &str| {
        let body = Some(json!({ "text": text }));
        owner.call(reqwest::Method::PUT, "/v1/policy", body).await.expect(200);
    };
    let token = async |role: &str| {
        let body = json!({ "name": role, "role": role });
        stack.caller(owner.post("/v1/tokens", body).await.expect(201)["token"].as_str())
    };
    let (agent, reviewer) = (token("agent").await, token("reviewer").await);
    let made = agent.post("/v1/sessions", json!({})).await.expect(201);
    let id = made["session_id"].as_str().expect("an id").to_owned();
    let session = TestSession { id, agent, reviewer };

    put(ASKS).await;
    let exec = session.submit(json!({ "command": "touch a" })).await;
    let path = format!("/v1/approvals/{}/decision", session.approval_of(&exec).await);
    let yes = json!({ "decision": "approve", "scope": "session" });
    session.reviewer.post(&path, yes).await.expect(200);
    assert_eq!(session.wait(&exec).await["state"], "exited");

    executor.kill();
    let exec = session.submit(json!({ "command": "touch a", "background": true })).await;
    let watched = Watched {
        owner: owner.clone(),
        id: session.id.clone(),
        events: owner.0.events(&session.id, 0),
    };
    watched.until(&exec, |exec| exec["decision"]["outcome"] == "allow").await;
    put(REFUSES).await;
    watched.recalled(&exec).await;
    executor.start_again().await;
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "denied", "{exec}");
    assert_eq!(exec["error"]["message"], "not at all any more");
}
