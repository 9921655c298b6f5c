//! The running stack: its tenants, and commands through its HTTP API as any client gives them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cli::client::{Approval, Client, Exec, ExecRequest, NewSession};
use cli::dev_file::DevFile;
use domain::exec::ExecState;
use serde_json::json;

/// How long one command may take to end.
pub(crate) const WAIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);
const START_LIMIT: Duration = Duration::from_secs(30);

/// A tenant of the stack.
pub(crate) struct Tenant {
    /// Its agent.
    pub(crate) agent: Client,
    reviewer: Client,
    /// Process id of its executor.
    pub(crate) executor_pid: u32,
}

/// The stack and its tenants.
pub(crate) struct Stack {
    /// All of them.
    pub(crate) tenants: Vec<Tenant>,
    /// Where Temporal listens.
    pub(crate) temporal_address: String,
    /// What `bulkhead dev` says of it.
    pub(crate) dev: DevFile,
}

impl Stack {
    /// The one that runs on a data folder.
    pub(crate) fn find(data_dir: &Path) -> Result<Self> {
        let dev = DevFile::find(data_dir)?.context("no `bulkhead dev` runs there")?;
        let mut tenants = Vec::new();
        for (name, tokens) in &dev.tenants {
            let pid = dev.pids.get(&format!("executor-{name}"));
            tenants.push(Tenant {
                agent: Client::new(&dev.api_url, Some(&tokens.agent_token))?,
                reviewer: Client::new(&dev.api_url, Some(&tokens.reviewer_token))?,
                executor_pid: *pid.with_context(|| format!("{name} has no executor"))?,
            });
        }
        ensure!(!tenants.is_empty(), "there is no tenant");
        Ok(Self { tenants, temporal_address: dev.temporal_address.clone(), dev })
    }
}

impl Tenant {
    /// Makes a session.
    pub(crate) async fn session(&self, new: &NewSession) -> Result<String> {
        Ok(self.agent.create_session(new).await?.session_id)
    }

    /// Ends a session.
    pub(crate) async fn close(&self, session: &str) -> Result<()> {
        Ok(self.agent.close_session(session).await?)
    }

    /// Runs a command to its end, which must be a good one; the time is the caller's.
    pub(crate) async fn run(&self, session: &str, command: &str) -> Result<(Exec, Duration)> {
        let wait_ms = Some(WAIT.as_millis() as u64);
        let request = ExecRequest { wait_ms, ..ExecRequest::new(command) };
        let begin = Instant::now();
        let exec = self.agent.create_exec(session, &request, None).await?;
        let took = begin.elapsed();
        let good = exec.state == ExecState::Exited && exec.exit_code == Some(0);
        ensure!(good, "`{command}` ended as {} with {:?}", exec.state.as_str(), exec.exit_code);
        Ok((exec, took))
    }

    /// Starts a command that policy may ask about, approves it, and returns it once it runs or is over.
    pub(crate) async fn start(&self, session: &str, command: &str) -> Result<Exec> {
        let request = ExecRequest::new(command);
        let mut exec = self.agent.create_exec(session, &request, None).await?;
        let deadline = Instant::now() + START_LIMIT;
        let mut answered = false;
        loop {
            match (&exec.state, &exec.approval_id) {
                (ExecState::PendingApproval, Some(id)) if !answered => {
                    let answer = json!({"decision": "approve", "scope": "once"});
                    let path = format!("/v1/approvals/{id}/decision");
                    let _: Approval = self.reviewer.post(&path, &answer).await?;
                    answered = true;
                }
                (ExecState::Running, _) => return Ok(exec),
                (state, _) if state.is_terminal() => return Ok(exec),
                _ => {}
            }
            ensure!(Instant::now() < deadline, "`{command}` does not start");
            tokio::time::sleep(POLL).await;
            exec = self.agent.get_exec(&exec.exec_id).await?;
        }
    }

    /// Waits for the end of an exec.
    pub(crate) async fn finish(&self, exec_id: &str) -> Result<Exec> {
        let exec = self.agent.wait_for_exec(exec_id, WAIT).await?;
        if !exec.state.is_terminal() {
            bail!("an exec did not end within {} s", WAIT.as_secs());
        }
        Ok(exec)
    }
}

/// The id of the sandbox that an exec ran in.
pub(crate) fn sandbox_of(exec: &Exec) -> Result<String> {
    let id = exec.rest.get("sandbox").and_then(|sandbox| sandbox["id"].as_str());
    id.map(str::to_owned).context("the exec names no sandbox")
}
