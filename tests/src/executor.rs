//! One more executor, which the stack does not know and nobody starts again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stack::bin_dir;
use crate::{Caller, Stack};

const START_LIMIT: Duration = Duration::from_secs(60);

/// See the module. Ends with its value, and its sandboxes with the stack.
pub struct TestExecutor {
    child: Child,
    url: String,
    token: String,
    data_dir: PathBuf,
    env: Vec<(String, String)>,
    owner: Caller,
}

impl TestExecutor {
    /// Starts one for the tenant of `owner`, which has no other, at the control plane `url`, and
    /// waits until it is live.
    pub async fn start(
        stack: &Stack,
        url: &str,
        owner: &Caller,
        name: &str,
        env: &[(&str, &str)],
    ) -> Self {
        let executor = Self::spawn(stack, url, owner, name, env).await;
        executor.wait_for("live").await;
        executor
    }

    /// Starts one for a tenant that may have others.
    pub async fn spawn(
        stack: &Stack,
        url: &str,
        owner: &Caller,
        name: &str,
        env: &[(&str, &str)],
    ) -> Self {
        let body = json!({ "name": name, "role": "executor" });
        let made = owner.post("/v1/tokens", body).await.expect(201);
        let token = made["token"].as_str().expect("a token").to_owned();
        let data_dir = stack.data_dir().join("executors").join(name);
        std::fs::create_dir_all(&data_dir).expect("a folder");
        let env: Vec<(String, String)> =
            env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let child = spawn(url, &token, &data_dir, &env);
        let owner = owner.clone();
        Self { child, url: url.to_owned(), token, data_dir, env, owner }
    }

    /// Starts it again, as a service manager would after a crash.
    pub async fn start_again(&mut self) {
        self.kill();
        self.child = spawn(&self.url, &self.token, &self.data_dir, &self.env);
        self.wait_for("live").await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal, by name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.is_ok_and(|status| status.success()), "{name} was not sent");
    }

    /// Waits until the list of executors calls the tenant's only one `live` or `lost`; gives it as it
    /// is listed.
    pub async fn wait_for(&self, state: &str) -> Value {
        self.wait_until(|items| items[0]["state"] == state).await[0].clone()
    }

    /// Waits until the tenant's executors are as wanted.
    pub async fn wait_until(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let listed = self.owner.get("/v1/executors").await.expect(200);
            let items = listed["items"].as_array().expect("a list");
            if !items.is_empty() && wanted(items) {
                return items.clone();
            }
            assert!(Instant::now() < deadline, "not as wanted in time: {listed}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn spawn(url: &str, token: &str, data_dir: &Path, env: &[(String, String)]) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(bin_dir().join("bulkhead-executor"));
    command
        .env("BULKHEAD_URL", url)
        .env("BULKHEAD_EXECUTOR_TOKEN", token)
        .env("BULKHEAD_DATA_DIR", data_dir)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("starts")
}

impl Drop for TestExecutor {
    fn drop(&mut self) {
        self.kill();
    }
}
