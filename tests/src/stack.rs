//! One running stack per test process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use cli::dev_file::{DevFile, TenantTokens};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Caller, TestSession};

const START_LIMIT: Duration = Duration::from_secs(60);

/// A running stack with the tenants `acme`, `globex`, and `initech` for tests of its policy.
pub struct Stack {
    data_dir: PathBuf,
    dev: DevFile,
}

impl Stack {
    /// The stack that all tests of this process share.
    pub fn shared() -> &'static Self {
        static STACK: OnceLock<Stack> = OnceLock::new();
        STACK.get_or_init(|| Self::start("shared"))
    }

    /// A stack of its own, for tests that break things.
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// The same, with environment variables of its own.
    pub fn start_with(name: &str, env: &[(&str, &str)]) -> Self {
        let env: Vec<(String, String)> =
            env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let data_dir =
            std::env::temp_dir().join(format!("bulkhead-test-{name}-{}", std::process::id()));
        let (sender, failed) = mpsc::channel();
        let (folder, bulkhead) = (data_dir.clone(), bin_dir().join("bulkhead"));
        // The stack is told to end when the thread that started it ends: one that never does
        // before the process.
        std::thread::spawn(move || {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stack.sh");
            let status = Command::new("setpriv")
                .args(["--pdeathsig", "TERM", "--"])
                .arg(script)
                .arg(bulkhead)
                .arg(folder)
                .args(["acme", "globex", "initech"].map(|name| format!("--tenant={name}")))
                .envs(env)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status();
            let _ = sender.send(format!("{status:?}"));
        });
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Ok(Some(dev)) = DevFile::find(&data_dir) {
                return Self { data_dir, dev };
            }
            if let Ok(status) = failed.recv_timeout(Duration::from_millis(50)) {
                panic!("the stack did not start: {status}; see {}", data_dir.display());
            }
            assert!(Instant::now() < deadline, "the stack is not ready in time");
        }
    }

    /// `dev.json` as it is now: process ids change when a process is restarted.
    pub fn dev(&self) -> DevFile {
        DevFile::find(&self.data_dir).ok().flatten().unwrap_or_else(|| self.dev.clone())
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The `bulkhead` program, set up to talk to this stack.
    pub fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(bin_dir().join("bulkhead"));
        command.args(arguments).env("BULKHEAD_DATA_DIR", &self.data_dir);
        command.env_remove("BULKHEAD_URL").env_remove("BULKHEAD_TOKEN");
        command
    }

    /// A caller with any token, or none.
    pub fn caller(&self, token: Option<&str>) -> Caller {
        Caller::new(&self.dev.api_url, token)
    }

    /// Nobody in particular.
    pub fn anonymous(&self) -> Caller {
        self.caller(None)
    }

    /// The platform's operator.
    pub fn platform(&self) -> Caller {
        self.caller(Some(&self.dev.platform_token))
    }

    /// An owner of a tenant.
    pub fn owner(&self, tenant: &str) -> Caller {
        self.caller(Some(&self.tokens(tenant).owner_token))
    }

    /// An agent of a tenant.
    pub fn agent(&self, tenant: &str) -> Caller {
        self.caller(Some(&self.tokens(tenant).agent_token))
    }

    /// A reviewer of a tenant.
    pub fn reviewer(&self, tenant: &str) -> Caller {
        self.caller(Some(&self.tokens(tenant).reviewer_token))
    }

    /// A viewer of a tenant.
    pub fn viewer(&self, tenant: &str) -> Caller {
        self.caller(Some(&self.tokens(tenant).viewer_token))
    }

    /// The owner of a new tenant, without an executor.
    pub async fn tenant(&self, name: &str) -> Caller {
        let made = self.platform().post("/v1/tenants", json!({ "name": name })).await.expect(201);
        self.caller(made["owner_token"]["token"].as_str())
    }

    /// The id of a tenant.
    pub async fn tenant_id(&self, name: &str) -> String {
        let tenants = self.platform().get("/v1/tenants?limit=200").await.expect(200);
        let mut items = tenants["items"].as_array().into_iter().flatten();
        let tenant = items.find(|tenant| tenant["name"] == name).expect("a tenant");
        tenant["tenant_id"].as_str().expect("an id").to_owned()
    }

    /// Sets a tenant's quota.
    pub async fn set_quota(&self, name: &str, quota: Value) {
        let path = format!("/v1/tenants/{}/quota", self.tenant_id(name).await);
        self.platform().call(Method::PUT, &path, Some(quota)).await.expect(200);
    }

    /// A new session of acme's agent.
    pub async fn session(&self) -> TestSession {
        TestSession::create(self, "acme").await
    }

    /// Sends SIGKILL to a process of the stack, by its name in `dev.json`.
    pub fn kill(&self, process: &str) {
        let pid = self.dev().pids[process];
        let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "{process} was not running");
    }

    /// Runs SQL as the service's own role; gives what `psql` printed, or its error.
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        run_psql(&self.dev.database_url, sql)
    }

    /// The same as `superuser` or `owner`.
    pub fn psql_as(&self, role: &str, sql: &str) -> Result<String, String> {
        run_psql(&self.database_as(role), sql)
    }

    /// The database as another role: `superuser` or `owner`.
    pub fn database_as(&self, role: &str) -> String {
        let file = self.data_dir.join("secrets/postgres.json");
        let passwords: Value =
            serde_json::from_slice(&std::fs::read(file).expect("is there")).expect("JSON");
        let user = if role == "superuser" { "postgres" } else { "bulkhead_owner" };
        let password = passwords[role].as_str().expect("a password");
        let (_, place) = self.dev.database_url.split_once('@').expect("a host");
        format!("postgres://{user}:{password}@{place}")
    }

    fn tokens(&self, tenant: &str) -> &TenantTokens {
        &self.dev.tenants[tenant]
    }
}

fn run_psql(url: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .arg(url)
        .output()
        .expect("psql is installed by `cargo xtask setup`");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Where the programs under test are: given by `cargo xtask test`, else beside the test itself.
pub fn bin_dir() -> PathBuf {
    if let Some(folder) = std::env::var_os("BULKHEAD_BIN_DIR") {
        return folder.into();
    }
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("target/debug/deps").to_owned()
}

/// The Temporal program that `bulkhead dev` starts.
pub fn temporal_program() -> PathBuf {
    if let Some(program) = std::env::var_os("BULKHEAD_TEMPORAL") {
        return program.into();
    }
    let home = std::env::var_os("HOME").unwrap_or_default();
    let tool = Path::new(&home).join(".cache/bulkhead/tools/temporal");
    if tool.is_file() { tool } else { "temporal".into() }
}
