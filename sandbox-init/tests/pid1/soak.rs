//! PID 1 after a great many commands.

use protocol::init::{Start, Stdin, TerminalSize};

use crate::harness::{Sandbox, start};

/// What PID 1 has: open descriptors, and resident memory in KiB.
fn size(sandbox: &Sandbox) -> (usize, usize) {
    let pid = sandbox.host_pid();
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("memory");
    let kib = line.split_whitespace().nth(1).expect("a number");
    (fds, kib.parse().expect("a number"))
}

#[test]
fn ten_thousand_commands_leave_no_trace() {
    const COMMANDS: usize = 10_000;
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let quick = |n: usize| Start {
        argv: vec!["/bin/echo".into(), n.to_string()],
        stdin: if n.is_multiple_of(5) { Stdin::Bytes(vec![7; 100]) } else { Stdin::Closed },
        terminal: (n % 10 == 1).then_some(TerminalSize { rows: 24, cols: 80 }),
        ..start("")
    };
    for n in 0..100 {
        peer.run(&quick(n));
    }
    let before = size(&sandbox);
    for n in 0..COMMANDS {
        assert_eq!(peer.run(&quick(n)).stdout().trim(), n.to_string());
    }
    let after = size(&sandbox);
    println!("PID 1: {before:?} before, {after:?} after {COMMANDS} commands (descriptors, KiB)");
    assert_eq!(after.0, before.0, "descriptors");
    // What it keeps are the ids: some 30 bytes each.
    assert!(after.1 < before.1 + 1024, "{before:?} {after:?} KiB");
    sandbox.assert_alone("all of them ended");
}

#[test]
fn an_idle_sandbox_is_small_even_after_heavy_work() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    peer.run(&Start {
        stdin: Stdin::Bytes(vec![7; 1_000_000]),
        ..start("cat; head -c 50000000 /dev/zero | tee /dev/stderr")
    });
    peer.sh("true");
    let (_, kib) = size(&sandbox);
    println!("PID 1: {kib} KiB resident");
    assert!(kib <= 3 * 1024, "{kib} KiB");
}
