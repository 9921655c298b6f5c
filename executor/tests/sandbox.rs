//! What the executor promises, on a real Docker: commands end, results are true, nothing runs
//! twice, and what runs stays inside.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use std::time::{Duration, Instant};

use domain::exec::ExecOutcome;
use protocol::binary::Binary;
use protocol::exec::{ExecOrder, NotStarted};
use protocol::grant::{GrantClaims, hex};
use sha2::{Digest as _, Sha256};
use site::{Site, UID, docker, session, text, wait_until, why};
use uuid::Uuid;

#[test]
fn output_is_exact_and_the_streams_stay_apart() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let result = site.run(&life, &site.order(session, "echo hello; echo oops >&2; exit 3"));
    assert_eq!((text(&result.stdout), text(&result.stderr)), ("hello\n".into(), "oops\n".into()));
    assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Exited, Some(3)));
    assert_eq!(result.stdout.sha256, hex(&Sha256::digest(b"hello\n")));

    let order = ExecOrder {
        env: [("GREETING".to_owned(), "hi there".to_owned())].into(),
        stdin: Some(Binary(b"from stdin\0\xff".to_vec())),
        cwd: "/tmp".into(),
        ..site.order(session, "printf '%s|%s|' \"$GREETING\" \"$PWD\"; cat")
    };
    let result = site.run(&life, &order);
    assert_eq!(result.stdout.whole().expect("short"), b"hi there|/tmp|from stdin\0\xff");

    let result = site.run(&life, &site.order(session, "read x; echo \"$?\"; kill -USR1 $$"));
    assert_eq!((text(&result.stdout), result.signal), ("1\n".into(), Some(10)));

    // A program that inherits an ignored SIGPIPE complains instead of ending.
    let result = site.run(&life, &site.order(session, "yes | head -n 1; echo ${PIPESTATUS[0]}"));
    assert_eq!((text(&result.stdout), text(&result.stderr)), ("y\n141\n".into(), String::new()));
}

#[test]
fn a_command_opens_its_streams_by_name() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = ExecOrder {
        stdin: Some(Binary(b"in".to_vec())),
        ..site.order(
            session,
            "cat /dev/stdin; echo out > /dev/stdout; echo err | tee /dev/stderr; echo fd > /dev/fd/2",
        )
    };
    let result = site.run(&life, &order);
    assert_eq!(text(&result.stdout), "inout\nerr\n", "{}", text(&result.stderr));
    assert_eq!(text(&result.stderr), "err\nfd\n");
    let result = site.run(&life, &site.order(session, "--version; echo $?"));
    assert_eq!(text(&result.stdout), "127\n", "a script, not an option");
}

#[test]
fn a_command_whose_time_is_over_is_ended() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    for command in ["sleep 999", "trap '' TERM; while true; do sleep 999; done", "sleep 999 & wait"]
    {
        let order = ExecOrder { timeout_ms: 300, ..site.order(session, command) };
        let result = site.run(&life, &order);
        assert_eq!(result.outcome, ExecOutcome::TimedOut, "{command}");
        assert!(result.duration_ms < 2300, "{command}: {} ms", result.duration_ms);
    }
    let result = site.run(&life, &site.order(session, "ps -e -o comm= | grep -c sleep"));
    assert_eq!(text(&result.stdout), "0\n");
}

#[test]
fn a_child_left_behind_delays_nothing() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "true"));
    let start = Instant::now();
    let result = site.run(&life, &site.order(session, "sleep 999 & echo done"));
    assert_eq!((result.outcome, text(&result.stdout)), (ExecOutcome::Exited, "done\n".into()));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_cancelled_command_keeps_what_it_wrote() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo partial; sleep 999");
    let (task, cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    cancel.cancel();
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!(result.outcome, ExecOutcome::Cancelled);
    assert_eq!(text(&result.stdout), "partial\n");
}

#[test]
fn long_output_is_summarized_truthfully_and_shipped_whole() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "seq 1 150000; seq 1 5 >&2");
    let expected: String = (1..=150_000).map(|n| format!("{n}\n")).collect();
    let expected = expected.as_bytes();
    let result = site.run(&life, &order);
    let total = expected.len() as u64;
    assert_eq!((result.stdout.bytes_total, result.stdout.bytes_stored), (total, total));
    assert!(result.stdout.is_truncated());
    assert_eq!(result.stdout.sha256, hex(&Sha256::digest(expected)));
    assert!(expected.starts_with(&result.stdout.head.0));
    assert!(expected.ends_with(&result.stdout.tail.0));
    assert_eq!(text(&result.stderr), "1\n2\n3\n4\n5\n");
    wait_until("it is shipped", || site.shipped(order.exec_id, "stdout") == expected);
    wait_until("the spool is empty", || site.spool_files() == 0);
}

#[test]
fn output_beyond_the_cap_is_counted_and_does_not_stop_the_command() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "yes | head -c 80000000; echo end >&2");
    let result = site.run(&life, &order);
    assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Exited, Some(0)));
    assert_eq!(result.stdout.bytes_total, 80_000_000);
    assert_eq!(result.stdout.bytes_stored, domain::limits::MAX_OUTPUT_BYTES);
    assert!(result.stdout.is_truncated());
    assert_eq!(text(&result.stderr), "end\n");
}

#[test]
fn output_is_shipped_while_the_command_runs() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo early; until [ -e /work/go ]; do sleep 0.02; done");
    let (task, _cancel) = life.begin(site.grant(&order));
    wait_until("live output", || site.shipped(order.exec_id, "stdout") == b"early\n");
    site.run(&life, &site.order(session, "touch /work/go"));
    assert_eq!(site.result(order.exec_id, &life.wait(task)).exit_code, Some(0));
}

#[test]
fn a_command_has_no_privilege_and_reaches_nothing() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let probe = |command: &str| text(&site.run(&life, &site.order(session, command)).stdout);
    assert_eq!(probe("id -u; id -g; id -G"), format!("{UID}\n{UID}\n{UID}\n"));
    let capabilities = probe("grep -E '^Cap' /proc/self/status | awk '{print $2}' | sort -u");
    assert_eq!(capabilities, "0000000000000000\n");
    assert_eq!(probe("grep NoNewPrivs /proc/self/status | awk '{print $2}'"), "1\n");
    assert_eq!(probe("ls /.bulkhead/ctl 2>/dev/null; echo $?"), "2\n");
    assert_eq!(probe("kill -9 1 2>/dev/null; echo $?"), "1\n");
    assert_eq!(probe("cat /proc/1/environ 2>/dev/null; ls /proc/1/fd 2>/dev/null; echo $?"), "2\n");
    assert_eq!(probe("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"), "lo\n");
    assert_eq!(probe("(echo > /dev/tcp/169.254.169.254/80) 2>/dev/null; echo $?"), "1\n");
    assert_eq!(
        probe("touch /usr/x 2>/dev/null; echo $?; echo ok > /work/a && cat /work/a"),
        "1\nok\n"
    );
    assert_eq!(probe("cp /bin/true /tmp/t && /tmp/t 2>/dev/null; echo $?"), "126\n");
    assert_eq!(probe("ls -ln /proc/self/fd | awk 'NR>1 && $9>2' | wc -l"), "1\n");
}

#[test]
fn a_command_that_eats_all_memory_is_killed_and_the_sandbox_lives() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let result = site.run(&life, &site.order(session, "exec tail /dev/zero"));
    assert_eq!((result.outcome, result.oom_killed), (ExecOutcome::Killed, true));
    let order = site.order(session, "echo alive");
    let reply = life.exec(&site.grant(&order));
    assert_eq!(text(&site.result(order.exec_id, &reply).stdout), "alive\n");
    assert_eq!(site.generation(order.exec_id, &reply), 1);
}

#[test]
fn a_request_that_comes_twice_runs_once() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo x >> /work/count; sleep 0.3; cat /work/count");
    let request = site.grant(&order);
    let (first, _) = life.begin(request.clone());
    let (second, _) = life.begin(request.clone());
    let result = site.result(order.exec_id, &life.wait(first));
    assert_eq!(site.result(order.exec_id, &life.wait(second)), result);
    assert_eq!(site.result(order.exec_id, &life.exec(&request)), result);
    assert_eq!(text(&result.stdout), "x\n");
    let late = site.grant_for(&order, -60);
    assert_eq!(site.result(order.exec_id, &life.exec(&late)), result, "it had started in time");
    life.kill();
    let life = site.start();
    assert_eq!(site.result(order.exec_id, &life.exec(&request)), result);
}

#[test]
fn what_was_not_granted_never_starts() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo x");
    assert_eq!(why(&site, &life, &order, &site.grant_for(&order, -60)), NotStarted::GrantExpired);
    let mut request = site.grant(&order);
    let other = ExecOrder { command: "echo y".into(), ..order.clone() };
    request.order = site.grant(&other).order;
    assert_eq!(why(&site, &life, &order, &request), NotStarted::GrantRefused);
    let missing = ExecOrder { image_digest: format!("sha256:{}", "0".repeat(64)), ..order.clone() };
    assert_eq!(why(&site, &life, &missing, &site.grant(&missing)), NotStarted::ImageMissing);
    let other = Uuid::now_v7().into();
    let foreign = GrantClaims { executor_id: other, ..site.claims(&order, 300) };
    let foreign = site.request(&order, &foreign);
    assert_eq!(why(&site, &life, &order, &foreign), NotStarted::GrantRefused);
    assert_eq!(site.containers(), Vec::<String>::new());
}

#[test]
fn a_missing_folder_means_never_started_also_when_the_order_comes_again() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = ExecOrder { cwd: "/work/later".into(), ..site.order(session, "pwd") };
    let request = site.grant(&order);
    assert_eq!(why(&site, &life, &order, &request), NotStarted::CwdMissing);
    site.run(&life, &site.order(session, "mkdir /work/later"));
    assert_eq!(why(&site, &life, &order, &request), NotStarted::CwdMissing);
}

#[test]
fn a_killed_executor_goes_on_where_it_was() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let script = "echo x >> /work/starts; for i in 1 2 3 4 5 6 7 8; do \
                  seq $((i * 10000)) $((i * 10000 + 9999)); sleep 0.1; done; echo end >&2";
    let expected: String = (10_000..90_000).map(|n| format!("{n}\n")).collect();
    let order = site.order(session, script);
    let request = site.grant(&order);
    drop(life.begin(request.clone()));
    site.wait_started(order.exec_id);
    life.kill();
    let life = site.start();
    let reply = life.exec(&request);
    let result = site.result(order.exec_id, &reply);
    assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Exited, Some(0)));
    assert_eq!(result.stdout.bytes_total, expected.len() as u64);
    assert_eq!(result.stdout.sha256, hex(&Sha256::digest(&expected)));
    assert_eq!(text(&result.stderr), "end\n");
    assert_eq!(site.generation(order.exec_id, &reply), 1);
    wait_until("it is shipped", || site.shipped(order.exec_id, "stdout") == expected.as_bytes());
    let starts = site.run(&life, &site.order(session, "cat /work/starts"));
    assert_eq!(text(&starts.stdout), "x\n");
}

#[test]
fn short_output_and_an_end_during_the_executors_absence_are_not_lost() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo before; sleep 0.5; echo after; exit 7");
    let request = site.grant(&order);
    drop(life.begin(request.clone()));
    site.wait_started(order.exec_id);
    life.kill();
    let gone = Instant::now();
    wait_until("the command has ended", || gone.elapsed() > Duration::from_millis(700));
    let life = site.start();
    let result = site.result(order.exec_id, &life.exec(&request));
    assert_eq!((text(&result.stdout), result.exit_code), ("before\nafter\n".into(), Some(7)));
}

#[test]
fn a_vanished_container_means_lost_and_its_workspace_lives_on() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo kept > /work/file; echo written; sleep 999");
    let request = site.grant(&order);
    let (task, _cancel) = life.begin(request.clone());
    site.wait_started(order.exec_id);
    wait_until("the output", || site.shipped(order.exec_id, "stdout") == b"written\n");
    docker(&["rm", "-f", &site.container()]);
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Lost, None));
    assert_eq!(text(&result.stdout), "written\n");
    assert_eq!(site.result(order.exec_id, &life.exec(&request)), result, "never run again");
    let order = site.order(session, "cat /work/file");
    let reply = life.exec(&site.grant(&order));
    assert_eq!(site.generation(order.exec_id, &reply), 1);
    assert_eq!(text(&site.result(order.exec_id, &reply).stdout), "kept\n");
}

#[test]
fn a_lost_workspace_means_a_new_generation() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "echo gone > /work/file"));
    docker(&["rm", "-f", &site.container()]);
    for image in site.images() {
        std::fs::remove_file(image).expect("removes");
    }
    let order = site.order(session, "ls -A /work | wc -l");
    let reply = life.exec(&site.grant(&order));
    assert_eq!(site.generation(order.exec_id, &reply), 2);
    assert_eq!(text(&site.result(order.exec_id, &reply).stdout), "0\n");
}

#[test]
fn a_workspace_in_memory_goes_with_its_container() {
    let (mut site, session) = (Site::new(), session());
    site.workspaces = executor::workspace::WorkspaceKind::Tmpfs;
    let life = site.start();
    let order = site.order(session, "stat -f -c %T /work; echo gone > /work/file");
    assert_eq!(text(&site.run(&life, &order).stdout), "tmpfs\n");
    docker(&["rm", "-f", &site.container()]);
    let order = site.order(session, "ls -A /work | wc -l");
    let reply = life.exec(&site.grant(&order));
    assert_eq!(site.generation(order.exec_id, &reply), 2);
    assert_eq!(text(&site.result(order.exec_id, &reply).stdout), "0\n");
    let mut large = site.order(crate::session(), "true");
    large.limits.workspace_bytes = large.limits.memory_bytes + 1;
    assert_eq!(why(&site, &life, &large, &site.grant(&large)), NotStarted::WorkspaceExceedsMemory);
}

#[test]
fn a_container_that_vanished_in_the_executors_absence_is_lost_too() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "sleep 999");
    let request = site.grant(&order);
    drop(life.begin(request.clone()));
    site.wait_started(order.exec_id);
    life.kill();
    docker(&["kill", &site.container()]);
    let life = site.start();
    let result = site.result(order.exec_id, &life.exec(&request));
    assert_eq!(result.outcome, ExecOutcome::Lost);
    assert_eq!(site.containers(), Vec::<String>::new(), "the dead container was removed");
    let order = site.order(session, "true");
    let reply = life.exec(&site.grant(&order));
    assert_eq!(site.generation(order.exec_id, &reply), 1);
}

#[test]
fn a_closed_session_leaves_nothing_behind() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "sleep 999");
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    for _ in 0..2 {
        life.runtime.block_on(life.executor.close(session)).expect("closes");
    }
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!(result.outcome, ExecOutcome::Cancelled);
    assert_eq!(site.containers(), Vec::<String>::new());
    let late = site.order(session, "echo late");
    assert_eq!(why(&site, &life, &late, &site.grant(&late)), NotStarted::Cancelled);
    life.kill();
    let life = site.start();
    assert_eq!(why(&site, &life, &late, &site.grant(&late)), NotStarted::Cancelled);
    assert_eq!(site.containers(), Vec::<String>::new());
}

#[test]
fn a_session_that_was_closed_before_its_first_command_gets_no_sandbox() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    life.runtime.block_on(life.executor.close(session)).expect("closes");
    let late = site.order(session, "echo late");
    assert_eq!(why(&site, &life, &late, &site.grant(&late)), NotStarted::Cancelled);
    assert_eq!(site.containers(), Vec::<String>::new());
}

#[test]
fn commands_of_one_session_share_its_sandbox_from_the_first_moment() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let orders: Vec<_> = (0..8).map(|n| site.order(session, &format!("echo {n}"))).collect();
    let tasks: Vec<_> = orders.iter().map(|order| life.begin(site.grant(order)).0).collect();
    for (n, (task, order)) in tasks.into_iter().zip(&orders).enumerate() {
        let result = site.result(order.exec_id, &life.wait(task));
        assert_eq!(text(&result.stdout), format!("{n}\n"));
    }
    site.container();
}
