//! Commands that print so much that PID 1 shares their windows, on a real Docker: every byte arrives
//! once and in order, whatever the command, the connection or the executor does meanwhile.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use std::time::{Duration, Instant};

use domain::exec::ExecOutcome;
use domain::limits::MAX_OUTPUT_BYTES;
use protocol::enrolment::LossReason;
use protocol::exec::{ExecOrder, ExecResult, StreamSummary};
use protocol::grant::hex;
use sha2::{Digest as _, Sha256};
use site::{Site, session, wait_until};

/// Makes a file of numbered lines, 6 MB long, that `cat` prints as fast as a pipe fills.
const MAKE: &str = "seq -f '%011.0f' 500000 > /work/n";
const LINES: usize = 500_000;

fn lines() -> Vec<u8> {
    (1..=LINES).flat_map(|n| format!("{n:011}\n").into_bytes()).collect()
}

/// A site whose session has the file.
fn site() -> (Site, site::Life, domain::ids::SessionId) {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let made = site.run(&life, &site.order(session, MAKE));
    assert_eq!(made.exit_code, Some(0));
    (site, life, session)
}

/// Where an executor keeps what a command prints.
fn spool(site: &Site, order: &ExecOrder) -> std::path::PathBuf {
    site.folder().join(format!("data/spool/{}.stdout", order.exec_id))
}

fn assert_is(summary: &StreamSummary, expected: &[u8], what: &str) {
    let total = expected.len() as u64;
    assert_eq!((summary.bytes_total, summary.bytes_stored), (total, total), "{what}");
    assert_eq!(summary.sha256, hex(&Sha256::digest(expected)), "{what}");
    assert!(expected.starts_with(&summary.head.0) && expected.ends_with(&summary.tail.0), "{what}");
}

#[test]
fn both_streams_arrive_whole_at_once() {
    let (site, life, session) = site();
    let command = "cat /work/n /work/n & cat /work/n >&2; wait; sleep 0.2; echo end; echo late >&2";
    let order = site.order(session, command);
    let result = site.run(&life, &order);
    assert_eq!(result.exit_code, Some(0));
    let once = lines();
    assert_is(&result.stdout, &[&once[..], &once, b"end\n"].concat(), "stdout");
    assert_is(&result.stderr, &[&once[..], b"late\n"].concat(), "stderr");
}

#[test]
fn connections_that_break_meanwhile_cost_no_byte() {
    let (site, life, session) = site();
    let command = "for n in 1 2 3 4 5 6; do cat /work/n; sleep 0.3; done";
    let order = site.order(session, command);
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1500) {
        // Shorter and longer than a reconnect takes.
        for pause in [5, 60, 110] {
            std::thread::sleep(Duration::from_millis(pause));
            site.cut_connections();
        }
    }
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Exited, Some(0)));
    assert_is(&result.stdout, &lines().repeat(6), "six times");
}

#[test]
fn a_command_that_tampers_with_its_own_pipe_harms_only_its_output() {
    let (site, life, session) = site();
    let tampered = [
        // A pipe that holds a page, and one that holds as much as it may.
        "perl -e 'fcntl(STDOUT, 1031, 4096); fcntl(STDOUT, 1031, 1048576); fcntl(STDOUT, 1031, 4096)'",
        // One piece for each write.
        "perl -e 'fcntl(STDOUT, 4, 1 | 040000)'; printf a; printf b",
        // Read by somebody else too.
        "timeout 1 dd if=/proc/self/fd/1 of=/dev/null bs=4096 count=8 iflag=nonblock status=none",
        // Its bytes are pages of a file that changes.
        "perl -e 'open(F, \"<\", \"/work/n\"); sysopen(G, \"/work/n\", 2); for (1..50) { \
         syscall(40, 1, fileno(F), 0, 65536); sysseek(G, 0, 0); syswrite(G, \"x\" x 4096) }'",
    ];
    for tamper in tampered {
        let command = format!("cat /work/n; {tamper}; cat /work/n");
        let order = ExecOrder { timeout_ms: 20_000, ..site.order(session, &command) };
        let result = site.run(&life, &order);
        assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Exited, Some(0)), "{tamper}");
        let stdout = result.stdout;
        assert_eq!(stdout.bytes_total, stdout.bytes_stored, "{tamper}");
        assert!(stdout.bytes_total as usize > LINES * 12, "{tamper}");
        let shipped = || site.shipped(order.exec_id, "stdout");
        wait_until("it is shipped", || shipped().len() as u64 == stdout.bytes_stored);
        // What is told is what is stored.
        assert_eq!(stdout.sha256, hex(&Sha256::digest(shipped())), "{tamper}");
        assert!(shipped().ends_with(&stdout.tail.0), "{tamper}");
    }
}

#[test]
fn what_is_over_the_cap_is_counted_to_the_last_byte_and_can_be_called_off() {
    let (site, life, session) = site();
    let order = site.order(session, "for n in $(seq 13); do cat /work/n; done; echo end");
    let result = site.run(&life, &order);
    let whole = [lines().repeat(13), b"end\n".to_vec()].concat();
    let kept = &whole[..MAX_OUTPUT_BYTES as usize];
    let stdout = result.stdout;
    assert_eq!(stdout.bytes_total, whole.len() as u64);
    assert_eq!(stdout.bytes_stored, MAX_OUTPUT_BYTES);
    assert_eq!(stdout.sha256, hex(&Sha256::digest(kept)));
    assert_eq!(stdout.tail.0.len(), stdout.head.0.len());
    assert!(whole.ends_with(&stdout.tail.0), "{}", String::from_utf8_lossy(&stdout.tail.0));
    // One that goes on for ever is heard all the same, and so is another one beside it.
    let endless = site.order(session, "yes");
    let (task, cancel) = life.begin(site.grant(&endless));
    site.wait_started(endless.exec_id);
    let spool = spool(&site, &endless);
    let stored = || std::fs::metadata(&spool).map_or(0, |file| file.len());
    wait_until("it has printed more than is kept", || stored() == MAX_OUTPUT_BYTES);
    let begin = Instant::now();
    let beside = site.run(&life, &site.order(session, "echo beside"));
    assert_eq!(site::text(&beside.stdout), "beside\n");
    cancel.cancel();
    let result = site.result(endless.exec_id, &life.wait(task));
    assert_eq!(result.outcome, ExecOutcome::Cancelled);
    assert!(result.stdout.bytes_total > MAX_OUTPUT_BYTES);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn a_process_left_behind_by_a_fast_one_delays_nothing() {
    let (site, life, session) = site();
    for (left, survivors) in [("setsid yes &", 1), ("setsid sleep 999 &", 1)] {
        let begin = Instant::now();
        let command = format!("cat /work/n; {left} sleep 0.1");
        let result = site.run(&life, &site.order(session, &command));
        assert_eq!((result.outcome, result.survivors), (ExecOutcome::Exited, survivors), "{left}");
        assert!(begin.elapsed() < Duration::from_secs(3), "{left}: {:?}", begin.elapsed());
        assert!(result.stdout.bytes_total as usize >= LINES * 12, "{left}");
    }
}

#[test]
fn an_executor_that_dies_meanwhile_goes_on_where_its_file_ends() {
    let (site, life, session) = site();
    let order = site.order(session, "for n in 1 2 3 4; do cat /work/n; sleep 0.4; done; echo end");
    let (_task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    let spool = spool(&site, &order);
    let stored = || std::fs::metadata(&spool).map_or(0, |file| file.len());
    wait_until("some of it is kept", || stored() > 0);
    life.kill();
    // Meanwhile its window fills, and it waits.
    std::thread::sleep(Duration::from_millis(300));
    let life = site.start();
    let result = site.run(&life, &order);
    assert_eq!(result.outcome, ExecOutcome::Exited);
    assert_is(&result.stdout, &[lines().repeat(4), b"end\n".to_vec()].concat(), "stdout");
}

/// Runs a command that prints the lines, and takes most of them from the disk, after PID 1 has given
/// them up and before the command goes on. Gives its result.
fn lose_output(
    site: &Site,
    life: site::Life,
    session: domain::ids::SessionId,
    then: &str,
) -> (site::Life, ExecOrder, ExecResult) {
    let order = site.order(session, &format!("cat /work/n; sleep 2; {then}"));
    let (_task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    let spool = spool(site, &order);
    let stored = || std::fs::metadata(&spool).map_or(0, |file| file.len());
    wait_until("all of it is kept", || stored() == LINES as u64 * 12);
    life.kill();
    let file = std::fs::OpenOptions::new().write(true).open(&spool).expect("the spool file");
    file.set_len(LEFT as u64).expect("cut off");
    let life = site.start();
    let result = site.run(&life, &order);
    (life, order, result)
}

const LEFT: usize = 1_000_000;

#[test]
fn output_that_the_disk_lost_is_told_and_never_asked_for_again_and_again() {
    let (site, life, session) = site();
    let container = site.container();
    let (life, order, result) = lose_output(&site, life, session, "cat /work/n; sleep 999");
    // What follows has no place: whatever the command does, nobody can tell.
    assert_eq!(result.outcome, ExecOutcome::Lost);
    assert_is(&result.stdout, &lines()[..LEFT], "what is left");
    wait_until("its container is gone", || !site.containers().contains(&container));
    let shipped = || site.shipped(order.exec_id, "stdout").len();
    wait_until("what is left is shipped", || shipped() == LEFT);
    // The session goes on.
    let after = site.run(&life, &site.order(session, "head -c 12 /work/n"));
    assert_eq!(site::text(&after.stdout), "00000000001\n");
}

#[test]
fn output_that_the_disk_lost_of_a_command_that_ends_is_told_beside_its_end() {
    let (site, life, session) = site();
    let (_life, order, result) = lose_output(&site, life, session, "exit 7");
    assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Exited, Some(7)));
    assert_eq!(result.stdout.bytes_total, LINES as u64 * 12);
    assert_eq!(result.stdout.bytes_stored, LEFT as u64);
    let lost = [("stdout".to_owned(), LossReason::Unreadable)];
    wait_until("the loss is told", || site.mood.losses(order.exec_id) == lost);
    assert_eq!(site.shipped(order.exec_id, "stdout"), lines()[..LEFT]);
}
