//! A Docker daemon of the tests' own, to be killed: with live-restore commands run on and their
//! output is whole; without it they are lost, and the next one finds the workspace. And a second
//! OCI runtime, which sandboxes are made with when it is asked for.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use domain::exec::ExecOutcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::exec::ExecOrder;
use site::{Site, session, text, wait_until};

/// A runtime that is runc under the name of one with a kernel of its own.
const MISNAMED_RUNTIME: &str = "runsc";
/// A runtime that is runc under another name.
const OTHER_RUNTIME: &str = "other-runc";

/// See the module. Ends with everything in it.
struct Daemon {
    folder: PathBuf,
    live_restore: bool,
    process: Child,
}

impl Daemon {
    fn start(live_restore: bool) -> Self {
        let name = uuid::Uuid::now_v7().simple().to_string();
        let folder = PathBuf::from(format!("/tmp/bh-docker-{}", &name[20..]));
        std::fs::create_dir_all(&folder).expect("a folder");
        let process = Self::spawn(&folder, live_restore);
        let mut daemon = Self { folder, live_restore, process };
        daemon.wait_ready();
        daemon.load_image();
        daemon
    }

    fn spawn(folder: &std::path::Path, live_restore: bool) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log"));
        let log = log.expect("a log");
        let mut command = Command::new("dockerd");
        for (flag, entry) in
            [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            command.arg(flag).arg(folder.join(entry));
        }
        command
            .arg(format!("--host=unix://{}", folder.join("docker.sock").display()))
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false"])
            .arg(format!("--add-runtime={OTHER_RUNTIME}={}", runc()))
            .arg(format!("--add-runtime={MISNAMED_RUNTIME}={}", runc()))
            .arg(format!("--live-restore={live_restore}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        command.spawn().expect("dockerd starts")
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.join("docker.sock").display())
    }

    fn docker(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("docker").args(["-H", &self.host()]).args(arguments).output();
        let output = output.expect("the docker command");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }

    fn wait_ready(&mut self) {
        let ended = |process: &mut Child| !matches!(process.try_wait(), Ok(None));
        let log = self.folder.join("log");
        wait_until("the daemon answers", || {
            assert!(!ended(&mut self.process), "{}", std::fs::read_to_string(&log).expect("log"));
            self.docker(&["version", "--format", "{{.Server.Version}}"]).is_some()
        });
    }

    /// Takes the sandbox image over from the machine's own daemon.
    fn load_image(&self) {
        let image = std::env::var("BULKHEAD_SANDBOX_IMAGE")
            .unwrap_or_else(|_| "bulkhead-sandbox:bookworm".into());
        let mut save = Command::new("docker")
            .args(["save", &image])
            .stdout(Stdio::piped())
            .spawn()
            .expect("saves");
        let pipe = save.stdout.take().expect("a pipe");
        let loaded =
            Command::new("docker").args(["-H", &self.host(), "load", "-q"]).stdin(pipe).output();
        assert!(save.wait().expect("saves").success());
        assert!(loaded.expect("loads").status.success());
    }

    /// Kills the daemon as a crash would, and starts it again.
    fn crash(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("reaped");
        self.forget_dead_containerd();
        self.process = Self::spawn(&self.folder, self.live_restore);
        self.wait_ready();
    }

    /// Its containerd dies with the daemon. Where the machine's init does not reap it, the next
    /// daemon would take the zombie for a running one.
    fn forget_dead_containerd(&self) {
        let file = self.folder.join("exec/containerd/containerd.pid");
        let Ok(pid) = std::fs::read_to_string(&file) else { return };
        let stat = format!("/proc/{}/stat", pid.trim());
        wait_until("containerd ends with its daemon", || {
            std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
        });
        std::fs::remove_file(file).expect("removes");
    }

    fn site(&self) -> Site {
        let mut site = Site::new();
        site.docker_host = self.host();
        site
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(list) = self.docker(&["ps", "-aq"]) {
            for container in list.lines() {
                self.docker(&["rm", "-fv", container]);
            }
        }
        for volume in self.docker(&["volume", "ls", "-q"]).unwrap_or_default().lines() {
            self.docker(&["volume", "rm", "-f", volume]);
        }
        let pid = i32::try_from(self.process.id()).map(Pid::from_raw).expect("a pid");
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.process.wait();
        // A containerd that outlived a crash belongs to the daemon that started it.
        let containerd =
            std::fs::read_to_string(self.folder.join("exec/containerd/containerd.pid"));
        if let Some(pid) = containerd.ok().and_then(|pid| pid.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = self.folder.display().to_string();
        for line in mounts.lines().rev().filter(|line| line.contains(&ours)) {
            let target = line.split(' ').nth(1).unwrap_or_default();
            let _ = Command::new("umount").args(["-l", target]).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn runc() -> String {
    let found = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"];
    let found = found.into_iter().find(|path| std::path::Path::new(path).is_file());
    found.expect("runc, which Docker brings").to_owned()
}

const TICKS: &str = "echo started >> runs; for i in $(seq 40); do echo tick $i; sleep 0.2; done";

fn ticks() -> String {
    (1..=40).map(|n| format!("tick {n}\n")).collect()
}

#[test]
fn with_live_restore_a_command_runs_on_while_docker_restarts() {
    let mut daemon = Daemon::start(true);
    let (site, session) = (daemon.site(), session());
    let life = site.start();
    let order = site.order(session, TICKS);
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    daemon.crash();
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Exited, Some(0)));
    assert_eq!(text(&result.stdout), ticks());
    let next = site.order(session, "cat runs");
    assert_eq!(text(&site.run(&life, &next).stdout), "started\n");
    drop(life);
}

#[test]
fn without_live_restore_a_command_is_lost_and_the_next_one_goes_on_with_its_files() {
    let mut daemon = Daemon::start(false);
    let (site, session) = (daemon.site(), session());
    let life = site.start();
    let order =
        ExecOrder { timeout_ms: 300_000, ..site.order(session, "echo started >> runs; sleep 290") };
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    daemon.crash();
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Lost, None));
    let next = site.order(session, "cat runs");
    let reply = life.exec(&site.grant(&next));
    assert_eq!(text(&site.result(next.exec_id, &reply).stdout), "started\n", "once, and kept");
    assert_eq!(site.generation(next.exec_id, &reply), 1);
    drop(life);
}

#[test]
fn sandboxes_are_made_with_the_runtime_that_was_asked_for() {
    let daemon = Daemon::start(false);
    let mut site = daemon.site();
    site.runtime = Some(OTHER_RUNTIME.into());
    let life = site.start();
    let order = ExecOrder { timeout_ms: 30_000, ..site.order(session(), "echo here") };
    let result = site.run(&life, &order);
    assert_eq!(text(&result.stdout), "here\n");
    let made = daemon.docker(&["ps", "-q"]).expect("a list");
    let runtime = daemon.docker(&["inspect", "--format", "{{.HostConfig.Runtime}}", &made]);
    assert_eq!(runtime.as_deref(), Some(OTHER_RUNTIME));
    life.runtime.shutdown_timeout(Duration::from_secs(5));
}

#[test]
fn a_runtime_that_only_bears_the_name_of_a_better_one_is_found_out() {
    let daemon = Daemon::start(false);
    let doctor = |tier: &str| {
        Command::new(env!("CARGO_BIN_EXE_bulkhead-executor"))
            .args(["doctor", "--json", "--docker-host", &daemon.host()])
            .args(["--runtime", MISNAMED_RUNTIME, "--min-tier", tier])
            .output()
            .expect("runs")
    };
    let refused = doctor("2");
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{message}");
    assert!(message.contains("isolates at tier 1, BULKHEAD_MIN_TIER demands 2"), "{message}");
    let report: serde_json::Value = serde_json::from_slice(&doctor("1").stdout).expect("a report");
    let mut controls = report["controls"].as_array().expect("controls").iter();
    let kernel = controls.find(|control| control["name"] == "a kernel of its own");
    assert_eq!(kernel.expect("it is judged")["standing"], "advised");
    assert_eq!(daemon.docker(&["ps", "-aq"]).as_deref(), Some(""), "nothing is left behind");
}
