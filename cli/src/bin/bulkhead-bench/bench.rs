//! What every measurement gets, and how many samples it takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::docker::Docker;
use crate::stack::{Stack, Tenant};

const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_POLL: Duration = Duration::from_millis(100);
/// Longer than one container takes to be made or removed.
const STILL: Duration = Duration::from_secs(1);

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// Warm commands on each side.
    pub(crate) warm: u32,
    /// Commands before them, unmeasured.
    pub(crate) warm_up: u32,
    /// New sessions of each kind.
    pub(crate) starts: u32,
    /// Large outputs.
    pub(crate) outputs: u32,
    /// Bytes of a large output.
    pub(crate) output_bytes: u64,
    /// Sessions at once.
    pub(crate) parallel: usize,
    /// Commands of each of them.
    pub(crate) parallel_execs: u32,
    /// Idle sandboxes.
    pub(crate) idle: usize,
    /// Commands whose history is weighed.
    pub(crate) history_execs: u32,
    /// Commands that are called off.
    pub(crate) cancels: u32,
    /// Execs that lists go over.
    pub(crate) listed_execs: u32,
    /// Events that lists go over, and as many of the audit log.
    pub(crate) listed_events: u32,
    /// Events that are appended one by one.
    pub(crate) appended_events: u32,
}

impl Sizes {
    /// For a README: at most eight minutes.
    pub(crate) const FULL: Self = Self {
        warm: 200,
        warm_up: 20,
        starts: 30,
        outputs: 9,
        output_bytes: 100_000_000,
        parallel: 20,
        parallel_execs: 5,
        idle: 50,
        history_execs: 50,
        cancels: 20,
        listed_execs: 100_000,
        listed_events: 1_000_000,
        appended_events: 10_000,
    };
    /// To see whether something became slow: less than a minute.
    pub(crate) const QUICK: Self = Self {
        warm: 40,
        warm_up: 5,
        starts: 5,
        outputs: 1,
        output_bytes: 20_000_000,
        parallel: 8,
        parallel_execs: 3,
        idle: 8,
        history_execs: 10,
        cancels: 5,
        listed_execs: 5_000,
        listed_events: 50_000,
        appended_events: 2_000,
    };
}

/// The stack, Docker beside it, and the sizes.
pub(crate) struct Bench {
    /// The running stack.
    pub(crate) stack: Stack,
    /// Data folder of the stack.
    pub(crate) data_dir: PathBuf,
    /// The baseline.
    pub(crate) docker: Docker,
    /// The image of both.
    pub(crate) image: String,
    /// The program inside every sandbox, to be weighed.
    pub(crate) sandbox_init: Option<PathBuf>,
    /// Temporal's command line.
    pub(crate) temporal: PathBuf,
    /// How much is measured.
    pub(crate) sizes: Sizes,
}

impl Bench {
    /// The tenant that most is measured with.
    pub(crate) fn tenant(&self) -> Result<&Tenant> {
        self.stack.tenants.first().context("no tenant")
    }

    /// Waits until the sandboxes of the measurement before are gone and the pool is full: until
    /// nothing changes any more.
    pub(crate) async fn settle(&self) {
        let deadline = Instant::now() + SETTLE_LIMIT;
        let (mut last, mut since) = (0, Instant::now());
        while since.elapsed() < STILL && Instant::now() < deadline {
            let count = self.docker.list(&["bulkhead.sandbox".into()]).map_or(0, |all| all.len());
            if count != last {
                (last, since) = (count, Instant::now());
            }
            tokio::time::sleep(SETTLE_POLL).await;
        }
    }

    /// A container of Docker's own, as close to a sandbox as one is.
    pub(crate) fn plain_container(&self) -> Result<Plain<'_>> {
        let host = json!({"NetworkMode": "none", "Init": true, "CapDrop": ["ALL"]});
        let id = self.docker.start(&self.image, &host)?;
        Ok(Plain { docker: &self.docker, id })
    }

    /// A container of this specification.
    pub(crate) fn started_container(&self, wish: &Value) -> Result<Plain<'_>> {
        Ok(Plain { docker: &self.docker, id: self.docker.start_as(wish)? })
    }

    /// The host part of a sandbox's container, for one of Docker's own that is equal to it but
    /// for what makes it a sandbox: its sockets and its workspace.
    pub(crate) fn equal_host_part(&self, container: &str) -> Result<Value> {
        let known = self.docker.inspect(container)?;
        let mut host = json!({"Tmpfs": {"/tmp": "", "/work": ""}});
        for name in [
            "CapDrop",
            "CpuPeriod",
            "CpuQuota",
            "Memory",
            "MemorySwap",
            "NanoCpus",
            "NetworkMode",
            "PidsLimit",
            "ReadonlyRootfs",
            "Runtime",
            "SecurityOpt",
        ] {
            host[name] = known["HostConfig"][name].clone();
        }
        Ok(host)
    }
}

/// A running container. Dropping it removes it.
pub(crate) struct Plain<'a> {
    docker: &'a Docker,
    /// Its id.
    pub(crate) id: String,
}

impl Drop for Plain<'_> {
    fn drop(&mut self) {
        if let Err(problem) = self.docker.remove(&self.id) {
            cli::console::say(format_args!("a container is left: {problem:#}"));
        }
    }
}
