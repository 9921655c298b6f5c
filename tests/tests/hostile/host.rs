//! What a test sees of a sandbox from outside: its container, and the cases about the host.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Stack, TestSession};

pub const IDS: &[&str] = &["HC-092", "HC-108"];

/// A session's container.
pub struct Container {
    id: String,
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
        Self { id }
    }

    /// The container that bears a session's name, which one of the pool gets a moment after its
    /// first command.
    async fn named(session: &str) -> Self {
        let filter = format!("name={session}");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let found = docker(&["ps", "-q", "--no-trunc", "--filter", &filter]);
            if let Some(id) = found.lines().next() {
                return Self { id: id.to_owned() };
            }
            assert!(Instant::now() < deadline, "no container bears the name of {session}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Part of Docker's description of it.
    pub fn inspect(&self, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.id])
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
        while !docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("id={}", self.id)])
            .is_empty()
        {
            assert!(Instant::now() < deadline, "the container of a closed session stays");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn hc_092_a_workspace_that_resists_is_removed() {
    let session = Stack::shared().session().await;
    let command = "mkdir -p a/b; echo x > a/b/f; chmod 000 a; chattr +i a 2>&1; true";
    let exec = session.run_approved(json!({ "command": command })).await;
    assert_eq!(exec["state"], "exited", "{exec}");
    Container::running(&exec).close(&session).await;
}

#[tokio::test]
async fn hc_108_a_container_that_is_killed_means_lost_and_no_second_run() {
    let session = Stack::shared().session().await;
    let exec =
        session.submit(json!({ "command": "echo once >> /work/log; echo it; sleep 999" })).await;
    let approval = session.approval_of(&exec).await;
    session.decide(&approval, "approve", None).await;
    // It runs a moment before it has done anything.
    session.event("exec.output").await;
    docker(&["kill", &Container::named(&session.id).await.id]);
    let exec = session.wait(&exec).await;
    assert_eq!(exec["state"], "lost", "{exec}");
    let log = session.run_approved(json!({ "command": "cat /work/log" })).await;
    assert_eq!(log["stdout"]["head"], "once\n", "the workspace is still there: {log}");
    assert_eq!(log["sandbox"]["generation"], 1, "{log}");
}
