//! A `bulkhead dev` of our own: started detached on a fresh folder, stopped however we end.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::compile::Profile;
use crate::process::{self, Background};
use crate::{report, workspace};

const START_LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const CLOSE_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// A running `bulkhead dev`. Dropping it stops it.
pub(crate) struct Dev {
    profile: Profile,
    data_dir: PathBuf,
}

impl Dev {
    /// Starts one under `target/<purpose>/<our pid>` and waits until it is ready.
    pub(crate) fn start(purpose: &str, profile: Profile) -> Result<Self> {
        let folder = std::process::id().to_string();
        let data_dir = workspace::target().join(purpose).join(folder);
        std::fs::create_dir_all(&data_dir)?;
        let dev = Self { profile, data_dir };
        let mut command = dev.bulkhead(&["dev", "--detach"]);
        // Its children must not hold our pipes.
        command.stdin(Stdio::null());
        process::run(&mut command, START_LIMIT)?;
        Ok(dev)
    }

    /// Its data folder.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The CLI, talking to it and to nothing that our environment names.
    pub(crate) fn bulkhead(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.profile.folder().join("bulkhead"));
        command.args(arguments).env("BULKHEAD_DATA_DIR", &self.data_dir);
        for name in ["BULKHEAD_URL", "BULKHEAD_TOKEN"] {
            command.env_remove(name);
        }
        command.env("BULKHEAD_SANDBOX_INIT", workspace::sandbox_init());
        command
    }

    /// Runs the CLI to its end.
    pub(crate) fn call(&self, arguments: &[&str], limit: Duration) -> Result<Output> {
        process::output(&mut self.bulkhead(arguments), limit)
    }

    /// Starts the CLI beside us.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Result<Background> {
        Background::start(&mut self.bulkhead(arguments))
    }

    /// What `dev.json` says now.
    pub(crate) fn file(&self) -> Result<Value> {
        let path = self.data_dir.join("dev.json");
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// The process id of one of its programs; none while it is being restarted.
    pub(crate) fn find_pid(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.file()?["pids"][name].as_u64())
    }

    /// Stops it and removes its data: only after all went well, otherwise the logs are wanted.
    pub(crate) fn finish(self) -> Result<()> {
        self.stop()?;
        std::fs::remove_dir_all(&self.data_dir)?;
        Ok(())
    }

    fn stop(&self) -> Result<()> {
        // Sandboxes survive a stop by design; these would never be asked for again.
        if let Err(problem) = self.close_sessions() {
            report::say(format_args!("sandboxes may be left: {problem:#}"));
        }
        let output = self.call(&["dev", "stop"], STOP_LIMIT)?;
        if !output.status.success() {
            bail!("`bulkhead dev stop`: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn close_sessions(&self) -> Result<()> {
        let tenants = self.file()?["tenants"].clone();
        let deadline = Instant::now() + CLOSE_LIMIT;
        for tenant in tenants.as_object().into_iter().flat_map(|tenants| tenants.keys()) {
            for session in self.sessions(tenant, |state| state == "open")? {
                self.call(&["sessions", "close", &session, "--tenant", tenant], STOP_LIMIT)?;
            }
            while !self.sessions(tenant, |state| state != "closed")?.is_empty() {
                ensure!(Instant::now() < deadline, "{tenant}'s sessions do not close");
                thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// The ids of a tenant's sessions in the states wanted.
    fn sessions(&self, tenant: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let list = self.call(&["sessions", "list", "--json", "--tenant", tenant], STOP_LIMIT)?;
        let mut ids = Vec::new();
        for line in String::from_utf8_lossy(&list.stdout).lines() {
            let session: Value = serde_json::from_str(line)?;
            if session["state"].as_str().is_some_and(&wanted) {
                ids.extend(session["session_id"].as_str().map(str::to_owned));
            }
        }
        Ok(ids)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if self.data_dir.is_dir()
            && let Err(problem) = self.stop()
        {
            report::say(format_args!("could not stop it: {problem:#}"));
        }
    }
}
