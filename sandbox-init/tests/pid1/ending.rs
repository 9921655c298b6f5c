//! Hostile commands come to their end in time, with the right exit, and leave no process.

use std::time::{Duration, Instant};

use domain::limits::CANCEL_GRACE_MS;
use protocol::init::{Exit, Start, ToInit};

use crate::harness::{GRACE_MS, Outcome, Sandbox, start};

const TIMEOUT_MS: u64 = 700;

/// Runs a command that has to be over in time, and asserts that nothing is left of it.
fn run(sandbox: &Sandbox, command: &str) -> Outcome {
    run_within(sandbox, command, TIMEOUT_MS)
}

/// The same with a time of its own.
fn run_within(sandbox: &Sandbox, command: &str, timeout_ms: u64) -> Outcome {
    let mut peer = sandbox.connect();
    let begin = Instant::now();
    let outcome = peer.run(&Start { timeout_ms, ..start(command) });
    let limit = Duration::from_millis(timeout_ms + GRACE_MS + 1000);
    assert!(begin.elapsed() < limit, "{command}: {:?}", begin.elapsed());
    sandbox.assert_alone(command);
    assert_eq!(peer.sh("echo alive").stdout(), "alive\n", "{command}");
    outcome
}

#[test]
fn a_fork_bomb() {
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, ":(){ :|:& };: 2>/dev/null");
    assert_eq!(outcome.exit.code, Some(0), "the first of them ends at once");
    assert!(outcome.exit.survivors > 0);
    let outcome = run(&sandbox, "f() { f & f & }; while :; do f 2>/dev/null; done");
    // bash gives up itself (254) when a signal ends its pause after a failed fork, or is ended.
    let given_up = outcome.exit.code == Some(254) && outcome.exit.survivors > 0;
    assert!(outcome.exit.timed_out || given_up, "{outcome:?}");
}

#[test]
fn ever_more_children() {
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, "while true; do (sleep 1000 &) 2>/dev/null; done");
    // It gives up itself when the kernel has given it as many as it may have, or is ended.
    assert!(outcome.exit.timed_out || outcome.exit.survivors > 0, "{outcome:?}");
}

#[test]
fn a_kill_of_everything_hits_neither_pid_1_nor_shepherds() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let bystander = start("echo here; sleep 999");
    peer.begin(&bystander).until_stdout("here\n");
    let outcome = peer.sh("sleep 999 & kill -9 -1; echo still here");
    assert_eq!((outcome.stdout().as_str(), outcome.exit.code), ("still here\n", Some(0)));
    assert_eq!(outcome.exit.survivors, 0);
    let hit = peer.attach(bystander.exec_id, b"here\n").finish();
    // Had its shepherd been killed, its leader would have been reaped by PID 1, unheard.
    assert_eq!((hit.exit.signal, hit.exit.code), (Some(9), None));
    sandbox.assert_alone("kill -9 -1");
}

#[test]
fn deaf_commands() {
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, "trap '' TERM INT HUP; while :; do sleep 1; done");
    assert_eq!((outcome.exit.signal, outcome.exit.timed_out), (Some(9), true));
    let outcome = run(&sandbox, "exec >&- 2>&-; sleep 1000");
    assert_eq!((outcome.exit.signal, outcome.exit.timed_out), (Some(15), true));
    let outcome = run(&sandbox, "kill -STOP $$");
    assert_eq!((outcome.exit.signal, outcome.exit.timed_out), (Some(9), true));
    let outcome = run(&sandbox, "exec -a '[kworker/0:1]' sleep 1000");
    assert_eq!((outcome.exit.signal, outcome.exit.timed_out), (Some(15), true));
}

#[test]
fn zombies() {
    let sandbox = Sandbox::new();
    // Parents that never wait for their children.
    let outcome =
        run(&sandbox, "for i in {1..50}; do (sleep 0 & exec sleep 1000) & done 2>/dev/null; wait");
    assert!(outcome.exit.timed_out);
    // And more orphans than the sandbox may have processes at a time: 800 forks, on a busy machine
    // too.
    let command = "for i in {1..400}; do (true &); done; echo done";
    let outcome = run_within(&sandbox, command, 20 * TIMEOUT_MS);
    assert_eq!((outcome.stdout().as_str(), outcome.exit.code), ("done\n", Some(0)));
    assert_eq!(outcome.exit.survivors, 0);
}

#[test]
fn a_cancelled_command_gets_its_grace() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut shell = peer.begin(&start(
        "trap 'sleep 0.1; echo cleaned up; exit 0' TERM; echo ready; while :; do sleep 0.02; done",
    ));
    shell.until_stdout("ready\n");
    let exec_id = shell.exec_id;
    for _ in 0..2 {
        shell.send(&ToInit::Cancel { exec_id });
    }
    let outcome = shell.finish();
    assert_eq!(outcome.stdout(), "ready\ncleaned up\n");
    let Exit { code, cancelled, timed_out, .. } = outcome.exit;
    assert_eq!((code, cancelled, timed_out), (Some(0), true, false));
}

#[test]
fn a_cancelled_command_that_does_not_listen_is_dead_soon() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut start = start("trap '' TERM; echo ready; sleep 999 & sleep 999");
    start.grace_ms = 30_000;
    let mut shell = peer.begin(&start);
    shell.until_stdout("ready\n");
    let exec_id = shell.exec_id;
    let begin = Instant::now();
    shell.send(&ToInit::Cancel { exec_id });
    let outcome = shell.finish();
    assert_eq!((outcome.exit.signal, outcome.exit.cancelled), (Some(9), true));
    let grace = Duration::from_millis(CANCEL_GRACE_MS);
    assert!(begin.elapsed() >= grace && begin.elapsed() < grace * 10, "{:?}", begin.elapsed());
}

#[test]
fn a_command_that_is_forgotten_while_it_runs_is_ended() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut shell = peer.begin(&start("echo ready; sleep 999"));
    shell.until_stdout("ready\n");
    let exec_id = shell.exec_id;
    shell.send(&ToInit::Forget { exec_id });
    let begin = Instant::now();
    while sandbox.processes().len() > 1 {
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", sandbox.processes());
    }
}

#[test]
fn starts_that_take_long_keep_no_command_from_its_end() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let begin = Instant::now();
    let mut timed = peer.begin(&Start { timeout_ms: 1500, ..start("sleep 999") });
    // Whatever starts from here on is stopped on its way, again and again.
    timed.send(&ToInit::Start(start("exec perl -e 'kill 19, -1 while 1'")));
    for _ in 0..10 {
        timed.send(&ToInit::Start(start("true")));
    }
    let exit = timed.finish().exit;
    assert!(exit.timed_out, "{exit:?}");
    // Two seconds for each of them, one by one, would be twenty.
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}
