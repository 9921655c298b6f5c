//! Commands on a terminal.

use std::time::Duration;

use protocol::init::{Start, Stdin, TerminalSize, ToInit};

use crate::harness::{Sandbox, UID, start};

fn on_terminal(command: &str) -> Start {
    let terminal = Some(TerminalSize { rows: 24, cols: 80 });
    Start { terminal, stdin: Stdin::Open, ..start(command) }
}

#[test]
fn a_terminal_is_one_and_belongs_to_the_command() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let probe = "tty; stty size; for fd in 0 1 2; do test -t $fd; echo $?; done; \
                 stat -c %u $(tty); echo by name > $(tty); echo controlling > /dev/tty; \
                 echo error >&2; ps -o tpgid= -p $$ | grep -c -w $$";
    let outcome = peer.run(&on_terminal(probe));
    let expected = format!("/dev/pts/0\n24 80\n0\n0\n0\n{UID}\nby name\ncontrolling\nerror\n1\n");
    assert_eq!(outcome.stdout(), expected.replace('\n', "\r\n"));
    assert_eq!((outcome.stderr(), outcome.exit.code), (String::new(), Some(0)));
}

#[test]
fn what_is_typed_is_echoed_and_read() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut read = peer.begin(&on_terminal("read x; echo \"<$x>\""));
    assert_eq!(read.offer(0, b"hello\r", false), (6, true));
    assert_eq!(read.finish().stdout(), "hello\r\n<hello>\r\n");
}

#[test]
fn closing_the_input_ends_a_reader_at_once_even_in_the_middle_of_a_line() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    for (typed, shown) in [(&b"line\n"[..], "line\r\nline\r\n"), (b"half", "halfhalf"), (b"", "")] {
        let mut cat = peer.begin(&on_terminal("cat"));
        assert_eq!(cat.offer(0, typed, true), (typed.len() as u64, false));
        let outcome = cat.finish();
        assert_eq!((outcome.stdout().as_str(), outcome.exit.code), (shown, Some(0)));
    }
    for (stdin, count) in [(Stdin::Closed, "0\r\n"), (Stdin::Bytes(b"a\nb\n".to_vec()), "2\r\n")] {
        let outcome = peer.run(&Start { stdin, ..on_terminal("wc -l") });
        assert!(outcome.stdout().ends_with(count), "{outcome:?}");
    }
}

#[test]
fn a_new_size_is_seen_and_told() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let command = "trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut shell = peer.begin(&on_terminal(command));
    shell.until_stdout("ready");
    let exec_id = shell.exec_id;
    shell.send(&ToInit::Resize { exec_id, size: TerminalSize { rows: 50, cols: 132 } });
    let outcome = shell.finish();
    assert_eq!((outcome.stdout().as_str(), outcome.exit.code), ("ready\r\n50 132\r\n", Some(5)));
    // Of nobody: no harm.
    peer.send(&ToInit::Resize { exec_id, size: TerminalSize { rows: 1, cols: 1 } });
    assert_eq!(peer.sh("echo alive").stdout(), "alive\n");
}

#[test]
fn control_characters_signal_the_foreground_and_jobs_can_be_controlled() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    // Its child says it: before there is one, the shell itself would be hit.
    let command = "trap 'echo interrupted' INT; bash -c 'echo ready; exec sleep 999'; \
                   echo on; read x; echo $x";
    let mut shell = peer.begin(&on_terminal(command));
    shell.until_stdout("ready");
    shell.offer(0, b"\x03", false);
    shell.until_stdout("interrupted");
    shell.until_stdout("on\r\n");
    shell.offer(1, b"typed\n", false);
    assert!(shell.finish().stdout().ends_with("typed\r\ntyped\r\n"));

    let jobs = Start {
        argv: ["/bin/bash", "--noprofile", "--norc", "-i"].map(str::to_owned).to_vec(),
        ..on_terminal("")
    };
    let mut shell = peer.begin(&jobs);
    shell.until_stdout("$ ");
    shell.offer(0, b"sleep 998\n", false);
    wait_for(&sandbox, "sleep");
    shell.offer(10, b"\x1a", false);
    shell.until("a prompt", |shell| {
        shell.stdout().split("Stopped").nth(1).is_some_and(|rest| rest.contains("$ "))
    });
    // Twice: the first time may be too early, while the job counts as stopped.
    shell.offer(11, b"kill -9 %1; wait; exit 7\nexit 7\n", false);
    let outcome = shell.finish();
    assert_eq!((outcome.exit.code, outcome.exit.survivors), (Some(7), 0), "{outcome:?}");
    assert!(!outcome.stdout().contains("no job control"), "{outcome:?}");
}

fn wait_for(sandbox: &Sandbox, name: &str) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !sandbox.processes().iter().any(|process| process == name) {
        assert!(std::time::Instant::now() < deadline, "no {name}");
    }
}

#[test]
fn all_output_before_the_end_arrives() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let outcome = peer.run(&on_terminal("seq 1 200000"));
    let expected: String = (1..=200_000).map(|n| format!("{n}\r\n")).collect();
    assert!(outcome.stdout() == expected, "{} bytes", outcome.output[0].len());
}

#[test]
fn a_command_that_closes_its_terminal_is_not_hung_up() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let outcome = peer.run(&on_terminal("exec <&- >&- 2>&-; sleep 0.2; exit 3"));
    assert_eq!((outcome.exit.code, outcome.exit.signal), (Some(3), None));
}

#[test]
fn a_terminal_ends_with_its_command() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    for _ in 0..100 {
        let outcome = peer.run(&on_terminal("tty"));
        // Always the first one: none is left.
        assert_eq!(outcome.stdout(), "/dev/pts/0\r\n");
    }
    let outcome = peer.run(&on_terminal("(trap '' HUP TERM; sleep 999) & echo out"));
    assert_eq!(outcome.stdout(), "out\r\n");
    sandbox.assert_alone("a job that ignores SIGHUP");
}
