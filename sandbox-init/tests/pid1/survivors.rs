//! Nothing outlives its command, even one that ended by itself.

use std::time::{Duration, Instant};

use crate::harness::{Sandbox, start};

#[test]
fn what_is_left_behind_is_counted_and_ended() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    for (command, survivors) in [
        ("sleep 999 & echo done", 1),
        ("setsid sleep 100000 & disown; echo done; exit 0", 1),
        ("(setsid bash -c 'sleep 999 & exec setsid sleep 999' &); sleep 0.1; echo done", 2),
        ("sleep 999 > /dev/null 2>&1 < /dev/null & echo done", 1),
        ("(sleep 0 & exec sleep 999) & sleep 0.1; echo done", 1),
    ] {
        let outcome = peer.sh(command);
        assert_eq!(outcome.stdout(), "done\n", "{command}");
        assert_eq!(outcome.exit.survivors, survivors, "{command}");
        assert_eq!((outcome.exit.code, outcome.exit.signal), (Some(0), None), "{command}");
        assert!(!outcome.exit.timed_out && !outcome.exit.cancelled, "{command}");
        sandbox.assert_alone(command);
    }
}

#[test]
fn a_polite_survivor_may_clean_up_and_a_deaf_one_is_killed() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let polite = "(trap 'echo cleaned > /work/trace; exit' TERM; touch /work/ready; \
                  while :; do sleep 0.01; done) & until [ -e /work/ready ]; do sleep 0.01; done";
    assert!(peer.sh(polite).exit.survivors >= 1);
    assert_eq!(peer.sh("cat /work/trace").stdout(), "cleaned\n");
    let begin = Instant::now();
    let deaf = "(trap '' TERM; touch /work/deaf; while :; do sleep 1; done) & \
                until [ -e /work/deaf ]; do sleep 0.01; done; exit 6";
    let outcome = peer.sh(deaf);
    assert_eq!(outcome.exit.code, Some(6));
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(outcome.exit.duration_ms < 200, "its own time: {} ms", outcome.exit.duration_ms);
    sandbox.assert_alone(deaf);
}

#[test]
fn what_survivors_write_is_not_the_commands() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let outcome =
        peer.sh("(trap 'echo late' TERM; while :; do sleep 0.01; done) & sleep 0.1; echo own");
    assert_eq!(outcome.stdout(), "own\n");
    // Endless output is cut: at most what fits the pipe and the window.
    let outcome = peer.sh("setsid yes & true");
    assert_eq!(outcome.exit.survivors, 1);
    assert!(outcome.output[0].len() < 4 << 20, "{}", outcome.output[0].len());
    sandbox.assert_alone("yes");
}

#[test]
fn a_command_that_leaves_nothing_is_not_delayed() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    peer.sh("true");
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            let begin = Instant::now();
            assert_eq!(peer.run(&start("exit 3")).exit.survivors, 0);
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("a command takes {:?}, at best {:?}", times[25], times[0]);
}
