//! What somebody on the host does to a container, or the kernel to its PID 1, while commands use it:
//! each has its end in time, says what is known, and the session goes on.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use std::time::{Duration, Instant};

use domain::exec::ExecOutcome;
use domain::limits::KILL_GRACE_MS;
use protocol::calls::{CallKind, CallReply};
use protocol::exec::ExecOrder;
use protocol::files::FileRequest;
use site::switchboard::ClientBody;
use site::{Site, docker, session, text};

/// From the moment when a command's time and grace are over to its result.
const SLACK: Duration = Duration::from_secs(2);

#[test]
fn the_command_of_a_paused_container_is_lost_when_its_time_is_over() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "echo kept > /work/file"));
    let order = ExecOrder { timeout_ms: 3000, ..site.order(session, "echo begun; sleep 999") };
    let begin = Instant::now();
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    docker(&["pause", &site.container()]);
    let result = site.result(order.exec_id, &life.wait(task));
    let took = begin.elapsed();
    assert_eq!(result.outcome, ExecOutcome::Lost, "{result:?}");
    let over = Duration::from_millis(order.timeout_ms + KILL_GRACE_MS);
    assert!(took < over + SLACK, "{took:?}");
    let next = site.run(&life, &site.order(session, "cat /work/file"));
    assert_eq!(text(&next.stdout), "kept\n");
}

#[test]
fn the_command_of_a_paused_container_can_be_called_off() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "sleep 999");
    let (task, cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    docker(&["pause", &site.container()]);
    let begin = Instant::now();
    cancel.cancel();
    let result = site.result(order.exec_id, &life.wait(task));
    let took = begin.elapsed();
    assert_eq!(result.outcome, ExecOutcome::Lost, "{result:?}");
    assert!(took < Duration::from_millis(KILL_GRACE_MS) + SLACK, "{took:?}");
}

#[test]
fn a_pause_that_ends_in_time_is_none_of_a_commands_business() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let command = "until [ -e /work/go ]; do sleep 0.05; done; echo went";
    let order = site.order(session, command);
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    let container = site.container();
    docker(&["pause", &container]);
    docker(&["unpause", &container]);
    site.run(&life, &site.order(session, "touch /work/go"));
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!((result.outcome, text(&result.stdout)), (ExecOutcome::Exited, "went\n".into()));
}

#[test]
fn work_on_files_of_a_paused_container_says_so() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "echo kept > /work/file"));
    let container = site.container();
    docker(&["pause", &container]);
    let list = FileRequest::List { path: ".".into(), after: None, limit: 10 };
    let begin = Instant::now();
    let reply = site.call(session, CallKind::Files(list), ClientBody::default()).reply;
    let took = begin.elapsed();
    let CallReply::Unavailable(why) = reply else { panic!("{reply:?}") };
    assert!(why.contains("paused"), "{why}");
    assert!(took < Duration::from_secs(9), "{took:?}");
    docker(&["unpause", &container]);
    let next = site.run(&life, &site.order(session, "cat /work/file"));
    assert_eq!(text(&next.stdout), "kept\n");
}

#[test]
fn a_container_that_was_paused_while_nobody_looked_does_not_lock_its_session() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "echo kept > /work/file"));
    let paused = site.container();
    life.kill();
    docker(&["pause", &paused]);
    let life = site.start();
    let next = site.run(&life, &site.order(session, "cat /work/file"));
    assert_eq!(text(&next.stdout), "kept\n", "{next:?}");
    assert_ne!(site.container(), paused);
}

#[test]
fn a_sandbox_that_ends_for_want_of_memory_says_so() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    // Two, so that neither has more than PID 1 is made to look like.
    let command = "until [ -e /work/go ]; do sleep 0.1; done; tail /dev/zero & tail /dev/zero";
    let order = site.order(session, command);
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    let container = site.container();
    let first = docker(&["inspect", "--format", "{{.State.Pid}}", &container]);
    // The kernel would take a command first. Now it takes PID 1 first.
    for pid in docker(&["top", &container, "-eo", "pid"]).split_whitespace().skip(1) {
        let score = if pid == first.trim() { "1000" } else { "0" };
        // A short `sleep` may have ended.
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score);
    }
    site.run(&life, &site.order(session, "touch /work/go"));
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!((result.outcome, result.oom_killed), (ExecOutcome::Lost, true), "{result:?}");
    // One that is removed by somebody says nothing of memory.
    let order = site.order(session, "sleep 999");
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    docker(&["kill", &site.container()]);
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!((result.outcome, result.oom_killed), (ExecOutcome::Lost, false), "{result:?}");
}
