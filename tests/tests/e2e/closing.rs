//! What a closed session leaves behind: nothing, whichever way its work took.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::{Stack, TestSession};

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The session's container, once it bears the session's name.
fn container(session: &TestSession) -> String {
    let name = format!("name=bulkhead-{}-", session.id);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = docker(&["ps", "-aq", "--filter", &name]);
        if !found.is_empty() {
            return found;
        }
        assert!(Instant::now() < deadline, "no container of the session");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The file under a container's workspace.
fn workspace(container: &str) -> PathBuf {
    let volume = "{{range .Mounts}}{{if eq .Destination \"/work\"}}{{.Name}}{{end}}{{end}}";
    let volume = docker(&["inspect", "--format", volume, container]);
    let device = docker(&["volume", "inspect", "--format", "{{.Options.device}}", &volume]);
    let device = std::fs::canonicalize(device).expect("a device");
    let name = device.file_name().expect("a name").to_string_lossy().into_owned();
    let file = std::fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
    PathBuf::from(file.expect("a loop device").trim())
}

async fn leaves_nothing(session: &TestSession) {
    let container = container(session);
    let file = workspace(&container);
    assert!(file.exists(), "{}", file.display());
    session.agent.delete(&format!("/v1/sessions/{}", session.id)).await.expect(202);
    let deadline = Instant::now() + Duration::from_secs(30);
    let left = || {
        let there = !docker(&["ps", "-aq", "--filter", &format!("id={container}")]).is_empty();
        (there, file.exists())
    };
    while left() != (false, false) {
        assert!(Instant::now() < deadline, "container, workspace: {:?}", left());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_commands_went_ahead_leaves_nothing() {
    let session = Stack::shared().session().await;
    session.run("true").await;
    leaves_nothing(&session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_had_files_only_leaves_nothing() {
    let session = Stack::shared().session().await;
    let all = ["files", "--session", &session.id, "mkdir", "folder"];
    let mut command = Stack::shared().cli(&all);
    let run = tokio::task::spawn_blocking(move || command.output().expect("the program starts"));
    assert!(run.await.expect("ends").status.success());
    leaves_nothing(&session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_many_close_at_once_is_closed_once() {
    let session = Stack::shared().session().await;
    session.run("true").await;
    let path = format!("/v1/sessions/{}", session.id);
    let closes = (0..30).map(|_| session.agent.delete(&path));
    for answer in futures::future::join_all(closes).await {
        assert!([200, 202, 204].contains(&answer.status), "{}", answer.status);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let ends = async || {
        let audit = session.reviewer.audit_of(&session.id).await;
        audit.iter().filter(|event| event["action"] == "session.closed").count()
    };
    while ends().await == 0 {
        assert!(Instant::now() < deadline, "never closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let state = session.agent.get(&path).await.expect(200)["state"].clone();
    assert_eq!((state, ends().await), ("closed".into(), 1));
}
