//! Nothing that a command starts outlives it, however it hides and however it ends. On a real
//! Docker.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use std::time::{Duration, Instant};

use domain::exec::ExecOutcome;
use protocol::exec::ExecOrder;
use site::{Site, docker, session, text, wait_until};

/// Numbers of processes of one name in the site's container, as the container's own `ps` tells.
fn count(site: &Site, name: &str) -> usize {
    let names = docker(&["exec", &site.container(), "ps", "-e", "-o", "comm="]);
    names.lines().filter(|line| line.trim() == name).count()
}

/// Ways to leave a command's session and process group, and to lose one's parent.
const ESCAPES: [&str; 4] = [
    "(setsid sleep 999 &); sleep 999",
    "(setsid bash -c 'trap \"\" TERM HUP; (setsid sleep 999 &); while :; do sleep 999; done' &); \
     sleep 999",
    "setsid setsid bash -c '(sleep 999 &) ; exec sleep 999' & disown; sleep 999",
    "bash -c '(bash -c \"(setsid sleep 999 > /dev/null 2>&1 < /dev/null &)\" &)'; \
     trap '' TERM; while :; do sleep 999; done",
];

#[test]
fn nothing_outlives_a_command_whose_time_is_over() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    for command in ESCAPES {
        let order = ExecOrder { timeout_ms: 500, ..site.order(session, command) };
        let result = site.run(&life, &order);
        assert_eq!(result.outcome, ExecOutcome::TimedOut, "{command}");
        assert_eq!(count(&site, "sleep"), 0, "{command}");
        assert_eq!(count(&site, "bash"), 0, "{command}");
    }
    wait_until("every shepherd is gone", || count(&site, "shepherd") == 0);
}

#[test]
fn nothing_outlives_a_cancelled_command() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    for command in ESCAPES {
        let order = site.order(session, command);
        let (task, cancel) = life.begin(site.grant(&order));
        site.wait_started(order.exec_id);
        wait_until("its processes run", || count(&site, "sleep") >= 2);
        cancel.cancel();
        let result = site.result(order.exec_id, &life.wait(task));
        assert_eq!(result.outcome, ExecOutcome::Cancelled, "{command}");
        assert_eq!(count(&site, "sleep"), 0, "{command}");
    }
}

#[test]
fn a_command_that_prints_without_end_is_called_off_soon() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "yes");
    let (task, cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    cancel.cancel();
    let begin = Instant::now();
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!(result.outcome, ExecOutcome::Cancelled);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(count(&site, "yes"), 0);
}

#[test]
fn a_fork_bomb_comes_to_rest() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    // The first goes on until its time is over. The leader of the second may give up when it cannot
    // fork, and leaves the others behind.
    let lasting = "f() { while :; do f & done; }; f 2>/dev/null & while :; do :; done";
    let order = ExecOrder { timeout_ms: 500, ..site.order(session, lasting) };
    assert_eq!(site.run(&life, &order).outcome, ExecOutcome::TimedOut);
    assert_eq!(count(&site, "bash"), 0);
    let giving_up = "f() { f & f & }; while :; do f 2>/dev/null; done";
    let order = ExecOrder { timeout_ms: 500, ..site.order(session, giving_up) };
    let result = site.run(&life, &order);
    match result.outcome {
        ExecOutcome::TimedOut => {}
        outcome => assert_eq!((outcome, result.exit_code), (ExecOutcome::Exited, Some(254))),
    }
    assert_eq!(count(&site, "bash"), 0);
    let result = site.run(&life, &site.order(session, "echo alive"));
    assert_eq!(text(&result.stdout), "alive\n");
}

#[test]
fn nothing_outlives_a_command_that_ended_by_itself() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    for (command, survivors) in [
        ("setsid sleep 999 & echo done", 1),
        (
            "(setsid bash -c 'trap \"\" TERM HUP; while :; do sleep 999; done' &); sleep 0.2; echo done",
            2,
        ),
        ("echo done", 0),
    ] {
        let result = site.run(&life, &site.order(session, command));
        assert_eq!((result.outcome, text(&result.stdout)), (ExecOutcome::Exited, "done\n".into()));
        assert_eq!((result.exit_code, result.survivors), (Some(0), survivors), "{command}");
        assert_eq!(count(&site, "sleep"), 0, "{command}");
        assert_eq!(count(&site, "bash"), 0, "{command}");
    }
    wait_until("every shepherd is gone", || count(&site, "shepherd") == 0);
}

#[test]
fn a_command_cannot_touch_its_shepherd() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let probe = "kill -9 $PPID 2>/dev/null; echo $?; ls /proc/$PPID/fd 2>/dev/null; echo $?; \
                 cat /proc/$PPID/comm";
    let result = site.run(&life, &site.order(session, probe));
    assert_eq!(text(&result.stdout), "1\n2\nshepherd\n");
}

#[test]
fn nothing_outlives_a_shepherd_that_the_kernel_kills() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let other = site.order(session, "until [ -e /work/go ]; do sleep 0.02; done; echo whole");
    let (bystander, _cancel) = life.begin(site.grant(&other));
    site.wait_started(other.exec_id);
    let order = site.order(session, "echo $PPID > /work/shepherd; setsid tail -f /dev/null & wait");
    let (task, _cancel) = life.begin(site.grant(&order));
    wait_until("it runs", || count(&site, "tail") == 1);
    docker(&["exec", &site.container(), "bash", "-c", "kill -9 $(cat /work/shepherd)"]);
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!(result.signal, Some(9));
    wait_until("its processes are gone", || count(&site, "tail") == 0);
    site.run(&life, &site.order(session, "touch /work/go"));
    assert_eq!(text(&site.result(other.exec_id, &life.wait(bystander)).stdout), "whole\n");
}

#[test]
fn many_commands_leave_no_process_behind() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    for n in 0..300 {
        let result = site.run(&life, &site.order(session, "exit 3"));
        assert_eq!(result.exit_code, Some(3), "{n}");
    }
    wait_until("every shepherd is gone", || count(&site, "shepherd") == 0);
    let processes = docker(&["exec", &site.container(), "ps", "-e", "-o", "comm="]);
    // PID 1 and the `ps` itself.
    assert_eq!(processes.lines().count(), 2, "{processes}");
}

#[test]
fn a_process_left_behind_that_never_stops_writing_delays_nothing() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "true"));
    let start = Instant::now();
    let result = site.run(&life, &site.order(session, "setsid yes & true"));
    assert_eq!((result.outcome, result.survivors), (ExecOutcome::Exited, 1));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(count(&site, "yes"), 0);
}

#[test]
fn memory_that_something_else_ran_out_of_is_not_blamed_on_a_command() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let result = site.run(&life, &site.order(session, "tail /dev/zero; exit 0"));
    assert_eq!((result.outcome, result.oom_killed), (ExecOutcome::Exited, false));
    let result = site.run(&life, &site.order(session, "kill -9 $$"));
    assert_eq!((result.outcome, result.oom_killed), (ExecOutcome::Exited, false));
}

/// The file system of a site's workspace, which lets nobody write while this lives: whoever tries is
/// stuck in the kernel, and no signal ends it.
struct Frozen(std::fs::File);

impl Frozen {
    fn new(site: &Site) -> Self {
        let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &site.container()]);
        // Kept open from here, so that it can be let go whatever becomes of the container.
        let folder = std::fs::File::open(format!("/proc/{pid}/root/work"));
        let frozen = Self(folder.expect("the workspace"));
        assert!(frozen.tell("--freeze"), "fsfreeze works");
        frozen
    }

    fn tell(&self, what: &str) -> bool {
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&self.0);
        let path = format!("/proc/{}/fd/{descriptor}", std::process::id());
        let status = std::process::Command::new("fsfreeze").args([what, &path]).status();
        status.expect("fsfreeze").success()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        assert!(self.tell("--unfreeze"), "it can be let go");
    }
}

#[test]
fn a_container_whose_pid_1_stands_still_is_given_up_and_told_of() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "echo kept > kept"));
    let order = ExecOrder { timeout_ms: 500, ..site.order(session, "sleep 999") };
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    let container = site.container();
    let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &container]);
    let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a number"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("it is there");
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!((result.outcome, result.unended), (ExecOutcome::Lost, 1));
    let next = site.run(&life, &site.order(session, "cat kept"));
    assert_eq!(text(&next.stdout), "kept\n");
    assert_ne!(site.container(), container);
}

#[test]
fn a_process_that_nothing_can_end_costs_its_container_and_is_told_of() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let stuck = "echo kept > kept; while :; do date > now; done";
    let order = ExecOrder { timeout_ms: 2000, ..site.order(session, stuck) };
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    let (container, frozen) = (site.container(), Frozen::new(&site));
    let start = Instant::now();
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!(result.outcome, ExecOutcome::TimedOut);
    assert!(result.unended >= 1, "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    drop(frozen);
    let next = site.order(session, "cat kept");
    let reply = life.exec(&site.grant(&next));
    assert_eq!(text(&site.result(next.exec_id, &reply).stdout), "kept\n");
    assert_eq!(site.generation(next.exec_id, &reply), 1);
    assert_ne!(site.container(), container, "it is another one");
}
