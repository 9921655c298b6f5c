//! Our own programs beside hostile commands of the same tenant.

use std::time::{Duration, Instant};

use protocol::files::FileRequest;
use protocol::init::{FromInit, INIT_PROGRAM, Start, Stdin, ToInit};

use crate::harness::{ATTEMPT, Sandbox, start};

/// Kills, stops and slows whatever it may, for ever.
const STORM: &str = r#"
import os
print("ready", flush=True)
while True:
    for signal in (19, 9):
        try: os.kill(-1, signal)
        except ProcessLookupError: pass
"#;

/// Prints, for each attempt on the helper, whether it was refused; then who it is.
const ATTEMPTS: &str = r#"
def is_helper(pid):
    return pid.isdigit() and open(f"/proc/{pid}/comm").read() == "helper\n"
pid = int(next(pid for pid in os.listdir("/proc") if is_helper(pid)))
for number in (0, 9, 18, 19):
    refused(f"signal {number}", lambda: os.kill(pid, number))
refused("attach", lambda: trace(pid, 16))
refused("seize", lambda: trace(pid, 0x4206))
refused("nice", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
refused("policy", lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)))
refused("processors", lambda: os.sched_setaffinity(pid, {0}))
for file in ("environ", "mem", "maps", "stack", "auxv", "fd/0", "fd/1"):
    refused(file, lambda: open(f"/proc/{pid}/{file}", "rb").read(1))
for file in ("oom_score_adj", "fd/1", "fd/2", "comm"):
    refused("write " + file, lambda: open(f"/proc/{pid}/{file}", "w").write("9"))
for line in open(f"/proc/{pid}/status"):
    if line.startswith(("Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp:")):
        print("=", *line.split())
"#;

fn files(request: &FileRequest) -> Start {
    let request = serde_json::to_string(request).expect("json");
    let argv = vec![INIT_PROGRAM.to_owned(), "files".to_owned(), request];
    Start { argv, env: Vec::new(), cwd: "/".to_owned(), ..start("") }
}

/// The number on this host of the sandbox's command of this name.
fn command_of(sandbox: &Sandbox, name: &str) -> String {
    let below = |pid: &str| {
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(children).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let named = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/comm"));
    let shepherds = below(&sandbox.host_pid());
    let mut commands = shepherds.iter().flat_map(|shepherd| below(shepherd));
    commands.find(|pid| named(pid).is_ok_and(|it| it.trim() == name)).expect("it runs")
}

#[test]
fn a_command_has_no_power_over_a_helper_and_a_helper_has_none_but_over_files() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let put = FileRequest::Put { path: "a/b".into(), max_bytes: 100, mode: None };
    let put = Start { stdin: Stdin::Open, ..files(&put) };
    let mut helper = peer.begin(&put);
    assert_eq!(helper.offer(0, b"its ", false), (4, true));
    let user = put.uid;
    let script = Stdin::Bytes(format!("{ATTEMPT}{ATTEMPTS}").into_bytes());
    let report = peer.run(&Start { stdin: script, ..start("exec python3 -") }).stdout();
    let (who, attempts): (Vec<_>, Vec<_>) = report.lines().partition(|line| line.starts_with('='));
    assert_eq!(attempts.len(), 4 + 2 + 3 + 7 + 4, "{report}");
    for line in attempts {
        assert!(line.ends_with(" PermissionError"), "{line}");
    }
    let none = "0000000000000000";
    let others = 65_532;
    let mut expected = vec![
        format!("= Uid: {others} {others} {others} {user}"),
        format!("= Gid: {user} {user} {user} {user}"),
        "= Groups:".to_owned(),
    ];
    expected.extend(["Inh", "Prm", "Eff", "Bnd", "Amb"].map(|set| format!("= Cap{set}: {none}")));
    expected.extend(["= NoNewPrivs: 1".to_owned(), "= Seccomp: 2".to_owned()]);
    assert_eq!(who, expected);
    let mut helper = peer.follow(put.exec_id);
    helper.offer(4, b"file", true);
    assert_eq!(helper.finish().exit.code, Some(0));
    let made = peer.sh("cat /work/a/b; stat -c ' %u %g' /work/a /work/a/b").stdout();
    assert_eq!(made, format!("its file {user} {user}\n {user} {user}\n"));
}

#[test]
fn a_helper_has_its_own_three_descriptors_only() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let other = start("echo other; sleep 999");
    peer.begin(&other).until_stdout("other\n");
    let put = FileRequest::Put { path: "b".into(), max_bytes: 100, mode: None };
    let mut helper = peer.begin(&Start { stdin: Stdin::Open, ..files(&put) });
    assert_eq!(helper.offer(0, b"x", false), (1, true));
    let pid = command_of(&sandbox, "helper");
    let deadline = Instant::now() + Duration::from_secs(5);
    // The program's own: the workspace, and the file that it makes.
    loop {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("root may");
        // One may be closed meanwhile.
        let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let open: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
        let pipes = open.iter().filter(|link| link.starts_with("pipe:")).count();
        let files = open.iter().filter(|link| link.starts_with("/work")).count();
        assert_eq!(pipes + files, open.len(), "{open:?}");
        assert_eq!(pipes, 3, "{open:?}");
        if files > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{open:?}");
    }
}

#[test]
fn a_storm_of_signals_does_not_reach_a_helper() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let argv = ["/usr/bin/python3", "-c", STORM].map(str::to_owned).to_vec();
    let storm = Start { argv, ..start("") };
    peer.begin(&storm).until_stdout("ready\n");
    for _ in 0..20 {
        let begun = Instant::now();
        let outcome = peer.run(&files(&FileRequest::Mkdir { path: "folder".into() }));
        assert_eq!(outcome.exit.code, Some(0), "{outcome:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    let mut storm = peer.attach(storm.exec_id, b"ready\n");
    assert!(storm.signal(9), "it lives");
    storm.finish();
}

#[test]
fn where_the_kernel_knows_no_user_for_files_a_helper_is_the_tenants() {
    let sandbox = Sandbox::without("setfsuid");
    let mut peer = sandbox.connect();
    let put = FileRequest::Put { path: "a".into(), max_bytes: 100, mode: None };
    let put = Start { stdin: Stdin::Open, ..files(&put) };
    let mut helper = peer.begin(&put);
    assert_eq!(helper.offer(0, b"te", false), (2, true));
    let status = format!("/proc/{}/status", command_of(&sandbox, "init"));
    let status = std::fs::read_to_string(status).expect("it waits for more");
    let (user, none) = (put.uid, "0000000000000000");
    assert!(status.contains(&format!("Uid:\t{user}\t{user}\t{user}\t{user}\n")), "{status}");
    for set in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
        assert!(status.contains(&format!("Cap{set}:\t{none}\n")), "{status}");
    }
    helper.offer(2, b"xt", true);
    assert_eq!(helper.finish().exit.code, Some(0));
    let made = peer.sh("cat /work/a; stat -c ' %u %g' /work/a").stdout();
    assert_eq!(made, format!("text {} {}\n", put.uid, put.uid));
}

#[test]
fn work_on_files_ends_with_the_executor_that_asked_for_it() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect_as(1);
    let put = FileRequest::Put { path: "new".into(), max_bytes: 1000, mode: None };
    let put = Start { stdin: Stdin::Open, ..files(&put) };
    let tool = Start { argv: vec![INIT_PROGRAM.into(), "tool".into()], ..put.clone() };
    let tool = Start { exec_id: start("").exec_id, ..tool };
    drop(peer.begin(&put));
    drop(peer.begin(&tool));
    let helpers = || sandbox.processes().iter().filter(|name| *name == "helper").count();
    let until = |count| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while helpers() != count {
            assert!(Instant::now() < deadline, "{} helpers", helpers());
        }
    };
    until(2);
    // A connection that breaks is none of their business.
    drop(peer);
    let mut peer = sandbox.connect_as(1);
    assert_eq!(peer.sh("echo on").stdout(), "on\n");
    assert_eq!(helpers(), 2);
    drop(peer);
    // Another life of the executor knows of no call. What the model asked for is in its journal.
    let mut peer = sandbox.connect_as(2);
    until(1);
    peer.send(&ToInit::Attach { exec_id: put.exec_id, have: [0, 0] });
    loop {
        match peer.next().expect("an answer") {
            FromInit::Unknown { exec_id } if exec_id == put.exec_id => break,
            FromInit::Started { exec_id, .. } => panic!("{exec_id} is known"),
            _ => {}
        }
    }
    drop(peer.attach(tool.exec_id, b""));
    assert_eq!(peer.sh("ls -A /work").stdout(), "");
}
