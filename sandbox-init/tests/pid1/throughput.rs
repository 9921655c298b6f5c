//! How fast output comes, which is told, not asserted: it is the machine's. And by which way.

use std::time::Instant;

use protocol::init::{Abilities, FromInit, ToInit, VERSION};

use crate::harness::{Sandbox, start};

#[test]
fn output_comes_whole_at_full_speed() {
    const BYTES: u64 = 1 << 30;
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    peer.sh("true");
    for command in [format!("head -c {BYTES} /dev/zero"), format!("yes | head -c {BYTES}")] {
        let start = start(&command);
        let exec_id = start.exec_id;
        let (begin, ticks) = (Instant::now(), sandbox.ticks());
        peer.send(&ToInit::Start(start));
        let mut offset = 0;
        loop {
            match peer.next().expect("a frame") {
                FromInit::Output { offset: at, bytes, stream, .. } => {
                    assert_eq!(at, offset);
                    offset += bytes.len() as u64;
                    peer.send(&ToInit::Ack { exec_id, stream, offset });
                }
                FromInit::Exited { totals, .. } => break assert_eq!(totals, [BYTES, 0]),
                _ => {}
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        assert_eq!(offset, BYTES);
        let (speed, spent) = (BYTES as f64 / 1e6 / seconds, sandbox.ticks() - ticks);
        println!("{speed:.0} MB/s, {} ms of PID 1's time: {command}", spent * 10);
        peer.send(&ToInit::Forget { exec_id });
    }
}

#[test]
fn an_executor_that_does_not_get_the_window_gets_the_bytes() {
    const BYTES: u64 = 4_000_000;
    let sandbox = Sandbox::new();
    let mut peer = sandbox.accept();
    let abilities = Abilities { reads_windows: true };
    peer.send(&ToInit::Welcome { version: VERSION, epoch: 1, abilities });
    let start = start(&format!("head -c {BYTES} /dev/zero"));
    let exec_id = start.exec_id;
    peer.send(&ToInit::Start(start));
    let (mut offset, mut told) = (0, false);
    loop {
        match peer.next().expect("a frame") {
            FromInit::Output { offset: at, bytes, .. } => {
                assert_eq!(at, offset);
                offset += bytes.len() as u64;
            }
            // By the way that descriptors go, which the peer here does not look at.
            FromInit::Share { .. } => assert!(!std::mem::replace(&mut told, true), "twice"),
            FromInit::Shared { .. } => panic!("nobody has seen the window"),
            FromInit::Exited { totals, .. } => break assert_eq!(totals, [BYTES, 0]),
            _ => {}
        }
        // Slowly, so that the window grows to its widest.
        if told {
            let stream = protocol::init::Stream::Stdout;
            peer.send(&ToInit::Ack { exec_id, stream, offset });
        }
    }
    assert!(told && offset == BYTES);
}
