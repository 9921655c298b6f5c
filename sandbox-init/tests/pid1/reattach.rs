//! Large outputs, of which an executor hears a part before it dies.

use crate::harness::{Sandbox, start};

const LINES: u32 = 3_000_000;

#[test]
fn executors_that_die_in_a_fast_output_miss_and_repeat_nothing() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let command = start(&format!("echo; seq 1 {LINES}"));
    let mut kept = peer.begin(&command).output[0].clone();
    for life in 1..=12 {
        drop(peer);
        peer = sandbox.connect_as(1 + life as u64);
        let mut running = peer.attach(command.exec_id, &kept);
        // Frames of a whole window are on their way when it dies, the last of them in part.
        let goal = kept.len() + 33_333 * life;
        running.until("more output", |running| running.output[0].len() >= goal);
        kept.clone_from(&running.output[0]);
    }
    let outcome = peer.attach(command.exec_id, &kept).finish();
    let expected: String = (1..=LINES).map(|n| format!("{n}\n")).collect();
    assert!(outcome.output[0] == format!("\n{expected}").as_bytes());
}
