//! What a command reads.

use protocol::init::{MAX_CHUNK_BYTES, STDIN_WINDOW_BYTES, Start, Stdin};

use crate::harness::{Sandbox, start};

fn open(command: &str) -> Start {
    Start { stdin: Stdin::Open, ..start(command) }
}

#[test]
fn a_command_without_input_reads_the_null_device() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.connect().sh("stat -L -c '%F %t:%T' /proc/self/fd/0; read x; echo $?");
    assert_eq!(outcome.stdout(), "character special file 1:3\n1\n");
}

#[test]
fn input_that_is_known_from_the_start_arrives_whole() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n % 253) as u8).collect();
    let outcome = peer.run(&Start { stdin: Stdin::Bytes(bytes.clone()), ..start("cat") });
    assert!(outcome.output[0] == bytes);
    let outcome = peer.run(&Start { stdin: Stdin::Bytes(Vec::new()), ..start("wc -c") });
    assert_eq!(outcome.stdout(), "0\n");
    let unread = Start { stdin: Stdin::Bytes(bytes), ..start("exec <&-; echo closed; exit 4") };
    let outcome = peer.run(&unread);
    assert_eq!((outcome.stdout().as_str(), outcome.exit.code), ("closed\n", Some(4)));
}

#[test]
fn repeated_input_is_taken_once_and_a_gap_not_at_all() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut cat = peer.begin(&open("cat"));
    assert_eq!(cat.offer(0, b"one\n", false), (4, true));
    cat.until_stdout("one\n");
    assert_eq!(cat.offer(0, b"one\n", false), (4, true));
    assert_eq!(cat.offer(2, b"e\ntwo\n", false), (8, true));
    assert_eq!(cat.offer(9, b"lost\n", true), (8, true));
    assert_eq!(cat.offer(u64::MAX, b"lost\n", true), (8, true));
    assert_eq!(cat.offer(0, b"", false), (8, true));
    assert_eq!(cat.offer(8, b"three\n", true), (14, false));
    assert_eq!(cat.finish().stdout(), "one\ntwo\nthree\n");
}

#[test]
fn an_open_input_waits_and_its_end_may_come_alone() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut reader = peer.begin(&open("read -t 0.05 x; echo waited $?; wc -c"));
    reader.until_stdout("waited 142\n");
    assert_eq!(reader.offer(0, b"abc", false), (3, true));
    assert_eq!(reader.offer(3, b"", true), (3, false));
    assert_eq!(reader.finish().stdout(), "waited 142\n3\n");
}

#[test]
fn a_command_that_does_not_read_bounds_what_is_taken_and_loses_nothing() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let all: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let wait = "until [ -e /work/go ]; do sleep 0.02; done; sha256sum; cat";
    let mut reader = peer.begin(&open(wait));
    let piece = |offset: u64| {
        let offset = usize::try_from(offset).expect("small");
        &all[offset..all.len().min(offset + MAX_CHUNK_BYTES)]
    };
    let mut taken = 0;
    loop {
        let (now, open) = reader.offer(taken, piece(taken), false);
        assert!(open);
        if now == taken {
            break;
        }
        taken = now;
    }
    let pipe = 64 * 1024;
    assert!(taken >= STDIN_WINDOW_BYTES as u64, "{taken}");
    assert!(taken <= (STDIN_WINDOW_BYTES + pipe) as u64, "{taken}");
    // PID 1 has the time for others meanwhile.
    let exec_id = reader.exec_id;
    peer.sh("touch /work/go");
    let mut reader = peer.follow(exec_id);
    let total = all.len() as u64;
    while taken < total {
        let end = taken + piece(taken).len() as u64 == total;
        taken = reader.offer(taken, piece(taken), end).0;
    }
    let expected = format!("{}  -\n", sha256(&all));
    assert_eq!(reader.finish().stdout(), expected);
}

fn sha256(bytes: &[u8]) -> String {
    use std::io::Write as _;
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sha256sum");
    child.stdin.take().expect("stdin").write_all(bytes).expect("writes");
    let output = child.wait_with_output().expect("ends").stdout;
    String::from_utf8_lossy(&output[..64]).into_owned()
}

#[test]
fn input_for_a_command_that_takes_none_is_answered() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut closed = peer.begin(&open("exec <&-; echo closed; sleep 999"));
    closed.until_stdout("closed\n");
    // The writer learns it from the kernel.
    while closed.offer(0, b"abc", false).1 {}
    let exec_id = closed.exec_id;
    closed.send(&protocol::init::ToInit::Cancel { exec_id });
    closed.finish();
    assert_eq!(peer.follow(exec_id).offer(0, b"abc", false), (0, false));

    let mut none = peer.begin(&start("echo here; sleep 0.2"));
    none.until_stdout("here\n");
    assert_eq!(none.offer(0, b"abc", true), (0, false));
    none.finish();
}

#[test]
fn input_survives_a_new_connection() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut cat = peer.begin(&open("cat"));
    assert_eq!(cat.offer(0, b"abc", false), (3, true));
    cat.until_stdout("abc");
    let exec_id = cat.exec_id;
    drop(peer);
    let mut peer = sandbox.connect();
    let mut cat = peer.attach(exec_id, b"abc");
    assert_eq!(cat.offer(1, b"bcdef", true), (6, false));
    assert_eq!(cat.finish().stdout(), "abcdef");
}
