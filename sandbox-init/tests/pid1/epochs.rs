//! Which executor PID 1 listens to.

use protocol::init::{FromInit, ToInit, VERSION};

use crate::harness::{Sandbox, start, welcome};

#[test]
fn a_lower_epoch_is_refused_and_the_same_or_a_higher_one_takes_over() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect_as(5);
    let boot = peer.boot_id;
    assert_eq!(peer.sh("echo five").stdout(), "five\n");
    drop(peer);
    for _ in 0..3 {
        let mut stale = sandbox.connect_as(4);
        assert_eq!(stale.boot_id, boot);
        stale.try_send(&ToInit::Start(start("touch /work/stale")));
        stale.assert_refused();
    }
    for epoch in [5, 6, u64::MAX] {
        let mut peer = sandbox.connect_as(epoch);
        assert_eq!(peer.sh("ls -A /work | wc -l").stdout(), "0\n");
    }
    sandbox.connect_as(6).assert_refused();
}

#[test]
fn another_version_is_refused() {
    let sandbox = Sandbox::new();
    for version in [VERSION - 1, VERSION + 1] {
        let mut peer = sandbox.accept();
        peer.try_send(&welcome(version, 1));
        peer.try_send(&ToInit::Start(start("touch /work/stale")));
        peer.assert_refused();
    }
    // It did not raise the epoch either.
    assert_eq!(sandbox.connect_as(0).sh("ls -A /work | wc -l").stdout(), "0\n");
}

#[test]
fn nothing_counts_before_the_welcome() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.accept();
    let early = start("echo early");
    peer.send(&ToInit::Start(early.clone()));
    peer.send(&welcome(VERSION, 1));
    peer.send(&ToInit::Attach { exec_id: early.exec_id, have: [0, 0] });
    let answer = peer.next();
    assert!(matches!(answer, Some(FromInit::Unknown { exec_id }) if exec_id == early.exec_id));
    assert_eq!(peer.run(&early).stdout(), "early\n");
}

#[test]
fn who_does_not_say_who_it_is_hears_nothing_and_is_left() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut talker = peer.begin(&start("while :; do echo talk; sleep 0.02; done"));
    talker.until("a line", |talker| talker.stdout() == "talk\n");
    let exec_id = talker.exec_id;
    drop(peer);
    sandbox.accept().assert_refused();
    let mut peer = sandbox.connect_as(2);
    let mut talker = peer.attach(exec_id, b"talk\n");
    talker.until_stdout("talk\ntalk\n");
    talker.send(&ToInit::Cancel { exec_id });
    assert!(talker.finish().exit.cancelled);
}

#[test]
fn garbage_costs_the_connection_and_nothing_else() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let mut shell =
        peer.begin(&start("echo one; until [ -e /work/go ]; do sleep 0.02; done; echo two"));
    shell.until_stdout("one\n");
    let exec_id = shell.exec_id;
    peer.send_garbage(&u32::MAX.to_le_bytes());
    while peer.next().is_some() {}
    let mut peer = sandbox.connect();
    peer.send_garbage(&[3, 0, 0, 0, 0xff, 0xff, 0xff]);
    while peer.next().is_some() {}
    let mut peer = sandbox.connect();
    peer.sh("touch /work/go");
    let shell = peer.attach(exec_id, b"one\n");
    assert_eq!(shell.finish().stdout(), "one\ntwo\n");
}

#[test]
fn no_exec_is_started_twice() {
    let sandbox = Sandbox::new();
    let mut peer = sandbox.connect();
    let once = start("echo x >> /work/count; cat /work/count");
    assert_eq!(peer.run(&once).stdout(), "x\n");
    peer.send(&ToInit::Start(once.clone()));
    let answer = peer.next();
    assert!(matches!(answer, Some(FromInit::Unknown { .. })), "forgotten: {answer:?}");
    assert_eq!(peer.sh("cat /work/count").stdout(), "x\n");
}
