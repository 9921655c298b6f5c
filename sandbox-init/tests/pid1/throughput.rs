//! How fast output comes. Told, not asserted: it is the machine's.

use std::time::Instant;

use protocol::init::{FromInit, ToInit};

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
