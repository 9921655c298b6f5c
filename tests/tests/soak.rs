//! Many commands in one session leave nothing behind: no descriptor, container, cgroup, socket,
//! spool file or process, and no memory that grows with their number. 400 of them, or 10,000 with
//! `cargo xtask test --all`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use tests::{Stack, TestSession};

/// Before anything is counted: pools fill, caches warm up.
const WARM_UP: usize = 100;
const AT_ONCE: usize = 4;
/// What allocators and caches may take on top, in KiB.
const EXECUTOR_GROWTH_KIB: u64 = 12 * 1024;
const PID_1_GROWTH_KIB: u64 = 1024;

/// What there is of everything that must not grow.
#[derive(Debug)]
struct Footprint {
    descriptors: usize,
    executor_kib: u64,
    pid_1_kib: u64,
    processes: usize,
    containers: usize,
    cgroups: usize,
    spool_files: usize,
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).map(Iterator::count).unwrap_or(0)
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("resident");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// Cgroups of this container, over all hierarchies.
fn cgroups_of(container: &str) -> usize {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-path", &format!("*{container}*")])
        .output()
        .expect("find runs");
    String::from_utf8_lossy(&found.stdout).lines().count()
}

impl Footprint {
    fn of(stack: &Stack, container: &str) -> Self {
        let executor = stack.dev().pids["executor-acme"];
        let folder = stack.data_dir().join("executors/acme");
        let id = std::fs::read_to_string(folder.join("executor-id")).expect("an id");
        let label = format!("label=bulkhead.executor={}", id.trim());
        let pid_1 = docker(&["inspect", "--format", "{{.State.Pid}}", container]);
        let processes = docker(&["top", container, "-eo", "pid"]);
        Self {
            descriptors: entries(Path::new(&format!("/proc/{executor}/fd"))),
            executor_kib: resident_kib(executor),
            pid_1_kib: resident_kib(pid_1.parse().expect("a pid")),
            processes: processes.lines().count() - 1,
            containers: docker(&["ps", "-aq", "--filter", &label]).lines().count(),
            cgroups: cgroups_of(container),
            spool_files: entries(&folder.join("spool")),
        }
    }

    /// The same once what is still being shipped or forgotten has gone, or what there is in the end.
    async fn settled(stack: &Stack, container: &str) -> Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let now = Self::of(stack, container);
            if (now.spool_files == 0 && now.processes == 1) || Instant::now() > deadline {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn run_many(session: &TestSession, count: usize) {
    let runs = stream::iter(0..count).map(|n| async move {
        let exec = session.run(&format!("echo {n}")).await;
        assert_eq!(exec["stdout"]["head"], format!("{n}\n"), "{exec}");
    });
    runs.buffer_unordered(AT_ONCE).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_leave_nothing_behind() {
    let all = std::env::var_os("BULKHEAD_TEST_ALL").is_some();
    let count = if all { 10_000 } else { 400 };
    let stack = Stack::shared();
    let session = stack.session().await;
    let first = session.run("true").await;
    let sandbox = first["sandbox"]["id"].as_str().expect("a sandbox");
    let filter = format!("label=bulkhead.sandbox={sandbox}");
    let container = docker(&["ps", "-q", "--no-trunc", "--filter", &filter]);
    run_many(&session, WARM_UP).await;
    let before = Footprint::settled(stack, &container).await;
    run_many(&session, count).await;
    let after = Footprint::settled(stack, &container).await;
    println!("{count} commands: {before:?} -> {after:?}");

    assert_eq!(after.processes, 1, "only PID 1");
    assert_eq!(after.containers, before.containers);
    assert_eq!(after.cgroups, before.cgroups);
    assert_eq!(after.spool_files, 0);
    assert!(after.descriptors <= before.descriptors + 8, "{before:?} -> {after:?}");
    assert!(after.executor_kib <= before.executor_kib + EXECUTOR_GROWTH_KIB, "{after:?}");
    assert!(after.pid_1_kib <= before.pid_1_kib + PID_1_GROWTH_KIB, "{after:?}");
}
