//! Docker goes away and comes back: a command waits and says for what, and runs in the end; one
//! that runs already does not notice. The executors reach Docker through a door that we can shut.

use std::path::{Path, PathBuf};

use serde_json::json;
use tests::Stack;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// A socket that leads to Docker's own while it is open.
struct Door {
    path: PathBuf,
    open: Option<JoinHandle<()>>,
}

impl Door {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("bulkhead-door-{}", std::process::id()));
        Self { path, open: None }
    }

    fn open(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).expect("a socket");
        self.open = Some(tokio::spawn(async move {
            let mut passing = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                passing.spawn(async move {
                    let docker = Path::new("/var/run/docker.sock");
                    let mut far = UnixStream::connect(docker).await.expect("Docker runs");
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        }));
    }

    /// Cuts every connection and refuses new ones.
    fn shut(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        self.open.take().expect("it was open").abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_waits_for_docker_and_says_so() {
    let mut door = Door::new();
    door.open();
    let host = format!("unix://{}", door.path.display());
    let stack = tokio::task::spawn_blocking(move || {
        // Without containers in waiting, a new session needs Docker.
        Stack::start_with("docker", &[("DOCKER_HOST", &host), ("BULKHEAD_POOL_SIZE", "0")])
    })
    .await
    .expect("the stack starts");
    let warm = stack.session().await;
    assert_eq!(warm.run("echo before").await["exit_code"], 0);
    door.shut();

    // A sandbox that is there needs no Docker to run commands.
    assert_eq!(warm.run("echo during").await["stdout"]["head"], "during\n");
    // One that is not there does.
    let cold = stack.session().await;
    let exec = cold.submit(json!({ "command": "echo after" })).await;
    let waiting = cold.wait_until(&exec, |exec| exec["waiting_reason"].is_string()).await;
    assert_eq!(waiting["state"], "queued");
    let reason = waiting["waiting_reason"].as_str().expect("a reason");
    assert!(reason.contains("Docker"), "{reason}");

    door.open();
    let exec = cold.wait(&exec).await;
    assert_eq!((&exec["state"], &exec["stdout"]["head"]), (&json!("exited"), &json!("after\n")));
    assert_eq!(exec["sandbox"]["generation"], 1);
}
