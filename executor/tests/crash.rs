//! The program is killed at every place where a crash could hurt, started again, and must have lost
//! and doubled nothing. On a real Docker and a real Temporal.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod engine;
mod site;

use std::os::unix::process::ExitStatusExt as _;

use domain::exec::ExecOutcome;
use domain::ids::SessionId;
use engine::{Engine, Program, QUEUES};
use executor::failpoint::NAMES;
use protocol::exec::{ExecOrder, NotStarted};
use protocol::grant::hex;
use sha2::{Digest as _, Sha256};
use site::stuck::Watch;
use site::{Site, session, text, wait_until};

/// Places that a command with much output passes, and which visit is the deadly one.
const RUN: [&str; 16] = [
    "before_record_start",
    "after_record_start",
    "start_sent",
    "start_written",
    "started_heard",
    // Of at least six batches.
    "output_kept:3",
    "output_taken:1",
    "output_taken:3",
    "output_taken:5",
    // In the memory that PID 1 shares.
    "window_read:1",
    "window_read:5",
    "exit_heard",
    "result_recorded",
    "reply_made",
    "output_shipped",
    "shipped_marked",
];
/// Places that every result passes, also one that an earlier life left.
const REPORTED: [&str; 2] = ["result_reported", "report_marked"];
const REFUSED: [&str; 2] = ["before_withdraw", "after_withdraw"];
const SETTLED: [&str; 2] = ["before_bury", "after_bury"];
const CLOSED: [&str; 4] = ["before_close", "close_marked", "close_emptied", "sandbox_removed"];

/// Lines of output: 6 MB of them.
const LINES: u32 = 900_000;

struct Crash {
    site: Site,
    engine: Engine,
}

impl Crash {
    fn new() -> Self {
        let crash = Self { site: Site::new(), engine: Engine::start() };
        // Grants name the executor, whose id is made with its first start.
        let program = Program::start(&crash.site, &crash.engine);
        wait_until("it has an id", || crash.site.has_executor());
        program.stop();
        crash
    }

    /// Lets the program die at a failpoint while `work` is asked for.
    fn die<T>(&self, failpoint: &str, work: impl FnOnce(&Engine) -> T) -> T {
        let doomed = Program::start_doomed(&self.site, &self.engine, failpoint);
        let handle = work(&self.engine);
        let status = doomed.wait();
        assert_eq!(status.signal(), Some(9), "{failpoint}: it did not die there but {status}");
        handle
    }

    /// The same, and starts it again.
    fn survive<T>(&self, failpoint: &str, work: impl FnOnce(&Engine) -> T) -> (Program, T) {
        let handle = self.die(failpoint, work);
        (Program::start(&self.site, &self.engine), handle)
    }

    fn starts(&self, session: SessionId, order: &ExecOrder) -> String {
        let command = format!("grep -c {} /work/starts; true", order.exec_id);
        let look = self.site.order(session, &command);
        let reply = self.engine.reply(&self.engine.call(&self.site, &look, QUEUES[1]));
        text(&self.site.result(look.exec_id, &reply).stdout)
    }
}

#[test]
fn every_failpoint_has_its_test() {
    let mut tested: Vec<_> = [&RUN[..], &REPORTED, &REFUSED, &SETTLED, &CLOSED]
        .concat()
        .into_iter()
        .map(|name| name.split(':').next().expect("a name"))
        .collect();
    let mut all = NAMES.to_vec();
    tested.sort_unstable();
    tested.dedup();
    all.sort_unstable();
    assert_eq!(tested, all);
}

#[test]
fn a_crash_anywhere_neither_loses_nor_repeats_anything_of_a_command() {
    let (crash, session) = (Crash::new(), session());
    let site = &crash.site;
    let expected: String = (1..=LINES).map(|n| format!("{n}\n")).collect();
    let expected = expected.as_bytes();
    let _watch = Watch::of("cat /work/n".to_owned());
    for failpoint in RUN {
        let mut order = site.order(session, "");
        // `cat` writes as much at once as a pipe holds, so that its window is surely shared.
        order.command =
            format!("echo {} >> /work/starts; seq 1 {LINES} > /work/n; cat /work/n", order.exec_id);
        let (program, handle) =
            crash.survive(failpoint, |engine| engine.call(site, &order, QUEUES[1]));
        let result = site.result(order.exec_id, &crash.engine.reply(&handle));
        assert_eq!(
            (result.outcome, result.exit_code),
            (ExecOutcome::Exited, Some(0)),
            "{failpoint}"
        );
        let total = expected.len() as u64;
        assert_eq!((result.stdout.bytes_total, result.stdout.bytes_stored), (total, total));
        assert_eq!(result.stdout.sha256, hex(&Sha256::digest(expected)), "{failpoint}");
        wait_until("it is shipped", || {
            site.shipped(order.exec_id, "stdout").len() >= expected.len()
        });
        assert!(site.shipped(order.exec_id, "stdout") == expected, "{failpoint}: other bytes");
        wait_until("the spool is empty", || site.spool_files() == 0);
        assert_eq!(crash.starts(session, &order), "1\n", "{failpoint}");
        wait_until("it is reported directly", || !site.reported(order.exec_id).is_empty());
        let reported = site.reported(order.exec_id);
        assert!(reported.iter().all(|other| *other == result), "{failpoint}: two results");
        program.stop();
    }
}

#[test]
fn a_crash_around_a_report_costs_neither_the_report_nor_the_result() {
    for failpoint in REPORTED {
        // One with nothing to report from earlier, so that it dies of this result.
        let (crash, session) = (Crash::new(), session());
        let site = &crash.site;
        let order = site.order(session, "");
        let order =
            ExecOrder { command: format!("echo {} >> /work/starts", order.exec_id), ..order };
        let handle = crash.die(failpoint, |engine| engine.call(site, &order, QUEUES[1]));
        let before = site.reported(order.exec_id);
        assert_eq!(before.len(), 1, "{failpoint}: it was reported before the end");
        let program = Program::start(site, &crash.engine);
        let result = site.result(order.exec_id, &crash.engine.reply(&handle));
        assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Exited, Some(0)));
        // The mark may be lost with the crash, so it can be reported again, but never otherwise.
        assert!(site.reported(order.exec_id).iter().all(|other| *other == result), "{failpoint}");
        assert_eq!(crash.starts(session, &order), "1\n", "{failpoint}");
        program.stop();
    }
}

#[test]
fn a_crash_while_a_start_is_taken_back_starts_nothing() {
    let (crash, session) = (Crash::new(), session());
    for failpoint in REFUSED {
        let order = ExecOrder {
            cwd: "/nowhere".into(),
            ..crash.site.order(session, "touch /work/started")
        };
        let (program, handle) =
            crash.survive(failpoint, |engine| engine.call(&crash.site, &order, QUEUES[1]));
        let reply = crash.engine.reply(&handle);
        assert_eq!(crash.site.why(order.exec_id, &reply), NotStarted::CwdMissing, "{failpoint}");
        program.stop();
    }
}

#[test]
fn a_crash_while_an_exec_is_settled_leaves_it_settled() {
    let (crash, session) = (Crash::new(), session());
    let site = &crash.site;
    for failpoint in SETTLED {
        let order = site.order(session, "touch /work/started");
        let (program, handle) =
            crash.survive(failpoint, |engine| engine.request(site.settle(&order), QUEUES[1]));
        let reply = crash.engine.reply(&handle);
        assert_eq!(site.why(order.exec_id, &reply), NotStarted::Cancelled, "{failpoint}");
        let reply = crash.engine.reply(&crash.engine.call(site, &order, QUEUES[1]));
        assert_eq!(site.why(order.exec_id, &reply), NotStarted::Cancelled, "{failpoint}");
        program.stop();
    }
    assert_eq!(site.containers(), Vec::<String>::new());
}

#[test]
fn a_crash_while_a_session_is_closed_leaves_nothing_of_it() {
    let crash = Crash::new();
    let site = &crash.site;
    for failpoint in CLOSED {
        let session = session();
        let program = Program::start(site, &crash.engine);
        let order = site.order(session, "sleep 999");
        let running = crash.engine.call(site, &order, QUEUES[1]);
        site.wait_started(order.exec_id);
        program.stop();
        let (program, closing) = crash.survive(failpoint, |engine| engine.close(site, session));
        crash.engine.closed(&closing);
        let result = site.result(order.exec_id, &crash.engine.reply(&running));
        let ended = [ExecOutcome::Cancelled, ExecOutcome::Lost].contains(&result.outcome);
        assert!(ended, "{failpoint}: {:?}", result.outcome);
        assert_eq!(site.containers(), Vec::<String>::new(), "{failpoint}");
        let late = site.order(session, "true");
        let reply = crash.engine.reply(&crash.engine.call(site, &late, QUEUES[1]));
        assert_eq!(site.why(late.exec_id, &reply), NotStarted::Cancelled, "{failpoint}");
        program.stop();
    }
}

#[test]
fn the_programs_memory_stays_flat_whatever_is_printed() {
    let (crash, session) = (Crash::new(), session());
    let program = Program::start(&crash.site, &crash.engine);
    let run = |command: &str| {
        let order = crash.site.order(session, command);
        let reply = crash.engine.reply(&crash.engine.call(&crash.site, &order, QUEUES[1]));
        crash.site.result(order.exec_id, &reply).stdout.bytes_total
    };
    run("yes | head -c 10000000");
    let before = peak_kib(program.id());
    assert_eq!(run("yes | head -c 300000000"), 300_000_000);
    let grown = peak_kib(program.id()) - before;
    assert!(grown < 32 * 1024, "{grown} KiB more");
    program.stop();
}

/// Most memory that a process ever had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[test]
fn the_program_ends_with_a_reason_when_a_successor_has_enrolled() {
    let crash = Crash::new();
    let program = Program::start(&crash.site, &crash.engine);
    let order = crash.site.order(session(), "true");
    crash.engine.reply(&crash.engine.call(&crash.site, &order, QUEUES[1]));
    crash.site.calls.fence();
    let status = program.wait();
    assert_eq!((status.code(), status.signal()), (Some(1), None));
}
