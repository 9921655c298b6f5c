//! What a test sees of a sandbox from outside: its container, and the cases about the host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Stack, TestSession};

use crate::canary::Canary;

pub const IDS: &[&str] = &["HC-092", "HC-108"];

/// A session's container.
pub struct Container {
    id: String,
    /// Its control groups, as `/proc` lists them.
    groups: String,
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Container {
    /// The container that a session's commands run in.
    pub async fn of(session: &TestSession) -> Self {
        let exec = session.run("true").await;
        Self::running(&exec)
    }

    /// The container that an exec ran in.
    pub fn running(exec: &Value) -> Self {
        let sandbox = exec["sandbox"]["id"].as_str().expect("a sandbox");
        let filter = format!("label=bulkhead.sandbox={sandbox}");
        let id = docker(&["ps", "-q", "--no-trunc", "--filter", &filter]);
        assert!(!id.is_empty(), "{sandbox} has a container");
        Self::with_id(&id)
    }

    fn with_id(id: &str) -> Self {
        let pid = docker(&["inspect", "--format", "{{.State.Pid}}", id]);
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
        Self { id: id.to_owned(), groups: groups.expect("it runs") }
    }

    /// The container that bears a session's name, which one of the pool gets a moment after its
    /// first command.
    pub async fn named(session: &str) -> Self {
        let filter = format!("name={session}");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let found = docker(&["ps", "-q", "--no-trunc", "--filter", &filter]);
            if let Some(id) = found.lines().next() {
                return Self::with_id(id);
            }
            assert!(Instant::now() < deadline, "no container bears the name of {session}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Part of Docker's description of it.
    pub fn inspect(&self, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.id])
    }

    /// The number of its PID 1 on the host.
    pub fn pid(&self) -> String {
        self.inspect("{{.State.Pid}}")
    }

    /// The folder of the control group that it is in, for one of the first version's controllers or
    /// all of the second's.
    fn cgroup(&self, controller: &str) -> PathBuf {
        let of = |wanted: &dyn Fn(&str) -> bool| {
            self.groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (names, path) = (parts.next()?, parts.next()?);
                wanted(names).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let root = Path::new("/sys/fs/cgroup");
        match of(&|names| names.split(',').any(|name| name == controller)) {
            Some(path) => root.join(controller).join(path),
            None => root.join(of(&str::is_empty).expect("a control group")),
        }
    }

    /// A number that the kernel tells of it.
    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        std::fs::read_to_string(self.cgroup(controller).join(file)).ok()?.trim().parse().ok()
    }

    /// Processes of now, and how many there may be.
    pub fn pids(&self) -> (u64, u64) {
        let number = |file| self.number("pids", file).unwrap_or_default();
        (number("pids.current"), number("pids.max"))
    }

    /// How often a process was refused for being one too many.
    pub fn pids_refused(&self) -> u64 {
        let events = std::fs::read_to_string(self.cgroup("pids").join("pids.events"));
        let events = events.expect("events");
        let line = events.lines().find_map(|line| line.strip_prefix("max "));
        line.and_then(|count| count.parse().ok()).expect("a count")
    }

    /// Processor time that it has used.
    pub fn cpu_time(&self) -> Duration {
        if let Some(nanos) = self.number("cpuacct", "cpuacct.usage") {
            return Duration::from_nanos(nanos);
        }
        let stat = std::fs::read_to_string(self.cgroup("cpu").join("cpu.stat")).unwrap_or_default();
        let line = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        // Of one that is gone, nothing is known.
        Duration::from_micros(line.and_then(|usec| usec.parse().ok()).unwrap_or_default())
    }

    /// The file on the host that its workspace is.
    pub fn workspace_file(&self) -> PathBuf {
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid()));
        let mounts = mounts.expect("its mounts");
        let work = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/work"));
        let number = work.and_then(|line| line.split(' ').nth(2)).expect("a device");
        let file = std::fs::read_to_string(format!("/sys/dev/block/{number}/loop/backing_file"));
        file.expect("a loop device").trim().into()
    }

    /// Kills it.
    pub fn kill(&self) {
        docker(&["kill", &self.id]);
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        !docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("id={}", self.id)]).is_empty()
    }

    fn processes(&self) -> Vec<String> {
        let list = docker(&["top", &self.id, "-eo", "pid,args"]);
        list.lines().skip(1).map(ToOwned::to_owned).collect()
    }

    /// Asserts that nothing but PID 1 is left. What the kernel is still clearing away is waited
    /// for, for a moment.
    pub async fn assert_only_pid_1(&self, id: &str) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.processes();
            // A sandbox that ran out of memory may have been replaced.
            if left.len() <= 1 {
                return;
            }
            assert!(Instant::now() < deadline, "{id} left {left:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Closes the session; asserts that the container goes.
    pub async fn close(&self, session: &TestSession) {
        session.agent.delete(&format!("/v1/sessions/{}", session.id)).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.exists() {
            assert!(Instant::now() < deadline, "the container of a closed session stays");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn hc_092_a_workspace_that_resists_is_removed() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let command = "mkdir -p a/b; echo x > a/b/f; chmod 000 a; chattr +i a 2>&1; true";
    let exec = session.run_approved(json!({ "command": command })).await;
    assert_eq!(exec["state"], "exited", "{exec}");
    let container = Container::running(&exec);
    let file = container.workspace_file();
    assert!(file.is_file(), "{}", file.display());
    container.close(&session).await;
    assert!(!file.exists(), "{} stays behind", file.display());
    canary.assert_unharmed("HC-092").await;
}

#[tokio::test]
async fn hc_108_a_container_that_is_killed_means_lost_and_no_second_run() {
    let canary = Canary::start().await;
    let session = Stack::shared().session().await;
    let exec =
        session.submit(json!({ "command": "echo once >> /work/log; echo it; sleep 999" })).await;
    let approval = session.approval_of(&exec).await;
    session.decide(&approval, "approve", None).await;
    // It runs a moment before it has done anything.
    session.event("exec.output").await;
    Container::named(&session.id).await.kill();
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "lost", "{exec}");
    let log = session.run_approved(json!({ "command": "cat /work/log" })).await;
    assert_eq!(log["stdout"]["head"], "once\n", "the workspace is still there: {log}");
    assert_eq!(log["sandbox"]["generation"], 1, "{log}");
    canary.assert_unharmed("HC-108").await;
}
