//! One more control plane on a stack's database, keys and Temporal, with settings of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::stack::bin_dir;
use crate::{Caller, Stack};

const START_LIMIT: Duration = Duration::from_secs(30);

/// See the module. Ends with its value.
pub struct Replica {
    child: Child,
    url: String,
}

impl Replica {
    /// Starts one and waits until it is ready.
    pub async fn start(stack: &Stack, env: &[(&str, &str)]) -> Self {
        // Free a moment ago; two tests get different ones.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let dev = stack.dev();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(bin_dir().join("bulkhead-control-plane")).arg("serve");
        command
            .env("DATABASE_URL", &dev.database_url)
            .env("TEMPORAL_ADDRESS", &dev.temporal_address)
            .env("BULKHEAD_KEY_DIR", stack.data_dir().join("keys"))
            .env("BULKHEAD_LISTEN", format!("127.0.0.1:{port}"))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("starts");
        let replica = Self { child, url: format!("http://127.0.0.1:{port}") };
        let anybody = replica.caller(None);
        let deadline = Instant::now() + START_LIMIT;
        while anybody.get("/readyz").await.status != 200 {
            assert!(Instant::now() < deadline, "the replica is not ready in time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        replica
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A caller with any token, or none.
    pub fn caller(&self, token: Option<&str>) -> Caller {
        Caller::new(&self.url, token)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
