//! Signals on demand.

use std::time::{Duration, Instant};

use protocol::init::{FromInit, Start, Stdin, ToInit};

use crate::harness::{Sandbox, start};

#[test]
fn a_handler_hears_its_signal() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let command = "trap 'echo usr1' USR1; trap 'echo rt; exit 9' RTMIN+3; echo ready; \
                   while :; do sleep 0.02; done";
    let mut shell = peer.begin(&start(command));
    shell.until_stdout("ready\n");
    assert!(shell.signal(10));
    shell.until_stdout("usr1\n");
    assert!(shell.signal(37));
    assert_eq!(shell.finish().exit.code, Some(9));
}

#[test]
fn every_process_of_the_tree_gets_it_and_nobody_elses() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let other = start("sleep 999");
    peer.begin(&other);
    let member = "trap 'echo heard; exit' USR2; echo ready; while :; do sleep 0.02; done";
    let command = format!(
        "for i in 1 2; do (setsid bash -c \"{member}\" &); done; \
         trap 'echo heard' USR2; echo ready; read x; echo $x; read x"
    );
    let mut tree = peer.begin(&Start { stdin: Stdin::Open, ..start(&command) });
    tree.until("readiness", |tree| tree.stdout().matches("ready\n").count() == 3);
    assert!(tree.signal(12));
    tree.until("the signal", |tree| tree.stdout().matches("heard\n").count() == 3);
    tree.offer(0, b"on\nend\n", true);
    assert_eq!(tree.finish().exit.survivors, 0);
    let mut other = peer.attach(other.exec_id, b"");
    assert!(other.signal(9), "it lives");
    assert_eq!(other.finish().exit.signal, Some(9));
}

#[test]
fn a_stopped_command_goes_on() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut shell = peer.begin(&start("echo ready; for i in 1 2 3; do sleep 0.05; done; echo end"));
    shell.until_stdout("ready\n");
    assert!(shell.signal(19));
    assert!(shell.signal(18));
    assert_eq!(shell.finish().stdout(), "ready\nend\n");
}

#[test]
fn a_signal_for_nobody_or_without_a_number_is_not_delivered() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let command = start("echo ready; sleep 999");
    let mut shell = peer.begin(&command);
    for number in [0, -9, 65, i32::MIN, i32::MAX] {
        assert!(!shell.signal(number), "{number}");
    }
    assert!(shell.signal(15));
    assert_eq!(shell.finish().exit.signal, Some(15));
    assert!(!peer.follow(command.exec_id).signal(15), "ended and forgotten");
    assert!(!peer.follow(start("").exec_id).signal(15), "never started");
}

#[test]
fn a_command_that_stops_all_others_cannot_hold_pid_1() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let stop_all = "import os\nprint('ready', flush=True)\nwhile True:\n try: os.kill(-1, 19)\n \
                    except ProcessLookupError: pass";
    let hostile = Start {
        argv: ["/usr/bin/python3", "-c", stop_all].map(str::to_owned).to_vec(),
        timeout_ms: 4000,
        ..start("")
    };
    peer.begin(&hostile).until_stdout("ready\n");
    let begin = Instant::now();
    let mut starts = 0;
    while begin.elapsed() < Duration::from_secs(3) {
        let victim = Start { timeout_ms: 300, grace_ms: 100, ..start("true") };
        let asked = Instant::now();
        peer.send(&ToInit::Start(victim.clone()));
        loop {
            match peer.next() {
                Some(FromInit::Exited { exec_id, .. } | FromInit::Failed { exec_id, .. })
                    if exec_id == victim.exec_id =>
                {
                    break;
                }
                Some(_) => {}
                None => panic!("PID 1 is gone"),
            }
        }
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
        starts += 1;
    }
    assert!(starts > 0);
    let end = peer.attach(hostile.exec_id, b"ready\n").finish();
    assert!(end.exit.timed_out && begin.elapsed() < Duration::from_secs(8), "{end:?}");
    assert_eq!(peer.sh("true").exit.code, Some(0));
}
