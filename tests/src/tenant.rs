//! A tenant whose policy a test changes.

use std::time::UNIX_EPOCH;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::{Caller, Stack, TestSession};

/// The tenant whose policy tests change while its commands really run; one test at a time.
const SHARED: &str = "initech";

/// A tenant with those who work in it.
pub struct TestTenant {
    /// Everything inside the tenant.
    pub owner: Caller,
    /// Works.
    pub agent: Caller,
    /// Decides and reads.
    pub reviewer: Caller,
    /// The version that was active when the test began.
    pub base: i64,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl TestTenant {
    /// The tenant that has an executor, under the shipped policy, for this test alone.
    pub async fn shared(stack: &Stack) -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let mut tenant = Self {
            owner: stack.owner(SHARED),
            agent: stack.agent(SHARED),
            reviewer: stack.reviewer(SHARED),
            base: 0,
            _turn: Some(turn),
        };
        let shipped = tenant.owner.get("/v1/policy?version=0").await.expect(200);
        tenant.base = tenant.put(shipped["text"].as_str().expect("a text")).await;
        tenant
    }

    /// A new tenant. Its commands are decided about and never run: its executor only enrolled.
    pub async fn create(stack: &Stack, name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let made = stack.platform().post("/v1/tenants", json!({ "name": name })).await.expect(201);
        let owner = stack.caller(made["owner_token"]["token"].as_str());
        let tenant = Self {
            agent: token(stack, &owner, "agent").await,
            reviewer: token(stack, &owner, "reviewer").await,
            base: 0,
            _turn: None,
            owner,
        };
        let now = UNIX_EPOCH.elapsed().expect("a time after 1970");
        let executor = token(stack, &tenant.owner, "executor").await;
        let body = json!({
            "executor_id": format!("exr_{:032x}", now.as_nanos()), "version": "0",
            "host": "nowhere", "image_digest": "sha256:0",
        });
        executor.post("/v1/executors", body).await.expect(200);
        tenant
    }

    /// A caller with a new token of the tenant.
    pub async fn another(&self, stack: &Stack, role: &str) -> Caller {
        token(stack, &self.owner, role).await
    }

    /// Puts a policy and gives its version.
    pub async fn put(&self, text: &str) -> i64 {
        let body = Some(json!({ "text": text }));
        let answer = self.owner.call(Method::PUT, "/v1/policy", body).await;
        answer.expect(200)["version"].as_i64().expect("a version")
    }

    /// A new session of the agent.
    pub async fn session(&self) -> TestSession {
        self.session_with(json!({})).await
    }

    /// The same with settings of its own.
    pub async fn session_with(&self, settings: Value) -> TestSession {
        let made = self.agent.post("/v1/sessions", settings).await.expect(201);
        TestSession {
            id: made["session_id"].as_str().expect("an id").into(),
            agent: self.agent.clone(),
            reviewer: self.reviewer.clone(),
        }
    }
}

async fn token(stack: &Stack, owner: &Caller, role: &str) -> Caller {
    let body = json!({ "name": format!("test {role}"), "role": role });
    let made = owner.post("/v1/tokens", body).await.expect(201);
    stack.caller(made["token"].as_str())
}
