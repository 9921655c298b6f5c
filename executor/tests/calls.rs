//! What a client gets done in a sandbox while it waits: files, input, signals, terminals. On a real
//! Docker, by the real helper.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use domain::exec::ExecOutcome;
use domain::ids::{ExecId, SessionId};
use executor::executor::ExecError;
use protocol::calls::{CallKind, CallReply};
use protocol::exec::{ExecKind, ExecOrder, NotStarted, ToolRequest};
use protocol::files::{FileErrorCode, FileReply, FileRequest, MAX_ARCHIVE_BYTES, MAX_FILE_BYTES};
use protocol::grant::hex;
use protocol::init::TerminalSize;
use protocol::tools::{ReadFile, ToolCall};
use sha2::{Digest as _, Sha256};
use site::switchboard::ClientBody;
use site::{Life, Site, session, text, wait_until};
use tokio_util::sync::CancellationToken;

fn put(path: &str) -> CallKind {
    CallKind::Files(FileRequest::Put { path: path.into(), max_bytes: MAX_FILE_BYTES, mode: None })
}

fn get(path: &str) -> CallKind {
    CallKind::Files(FileRequest::Get { path: path.into(), max_bytes: MAX_FILE_BYTES })
}

fn nothing() -> ClientBody {
    ClientBody::default()
}

fn look(site: &Site, life: &Life, session: SessionId, command: &str) -> String {
    text(&site.run(life, &site.order(session, command)).stdout)
}

fn input(exec_id: ExecId, offset: Option<u64>, close: bool) -> CallKind {
    CallKind::Stdin { exec_id, offset, close }
}

#[test]
fn a_file_comes_back_as_it_was_put() {
    let (site, session) = (Site::new(), session());
    let _life = site.start();
    let bytes: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let done = site.call(session, put("a/b.bin"), ClientBody::of(bytes.clone()));
    let sha256 = hex(&Sha256::digest(&bytes));
    let expected =
        FileReply::Put { bytes: bytes.len() as u64, sha256: sha256.clone(), created: true };
    assert_eq!((done.whole, done.reply), (true, CallReply::Files(expected)));
    let back = site.call(session, get("a/b.bin"), nothing());
    assert!(matches!(&back.reply,
        CallReply::Files(FileReply::Get { bytes: n, sha256: s, .. })
            if *n == bytes.len() as u64 && *s == sha256));
    assert!(back.whole && back.bytes == bytes);
    assert_eq!(site.calls.nameless_calls(), 0);
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let (site, session) = (Site::new(), session());
    let _life = site.start();
    let refused = |what| match site.call(session, what, nothing()).reply {
        CallReply::FilesRefused(error) => error.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(get("none")), FileErrorCode::NotFound);
    assert_eq!(refused(get("../etc/passwd")), FileErrorCode::InvalidPath);
    let small = FileRequest::Put { path: "big".into(), max_bytes: 10, mode: None };
    let big = ClientBody::of(vec![1; 1_000_000]);
    match site.call(session, CallKind::Files(small), big).reply {
        CallReply::FilesRefused(error) => assert_eq!(error.code, FileErrorCode::TooLarge),
        other => panic!("{other:?}"),
    }
    let list = FileRequest::List { path: "none".into(), after: None, limit: 10 };
    assert_eq!(refused(CallKind::Files(list)), FileErrorCode::NotFound);
}

#[test]
fn a_folder_comes_back_as_the_archive_that_was_put() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    look(&site, &life, session, "mkdir -p in/sub; echo one > in/a; seq 1 100000 > in/sub/b");
    let pack = |path: &str| {
        let what = FileRequest::GetArchive {
            path: path.into(),
            max_bytes: MAX_ARCHIVE_BYTES,
            max_entries: 100,
        };
        let packed = site.call(session, CallKind::Files(what), nothing());
        assert!(packed.whole, "{:?}", packed.reply);
        packed.bytes
    };
    let unpack = FileRequest::PutArchive {
        path: "out".into(),
        max_bytes: MAX_ARCHIVE_BYTES,
        max_entries: 100,
    };
    let body = ClientBody::of(pack("in"));
    let done = site.call(session, CallKind::Files(unpack), body).reply;
    assert!(matches!(done, CallReply::Files(FileReply::PutArchive { .. })), "{done:?}");
    assert_eq!(look(&site, &life, session, "diff -r in out && echo same"), "same\n");
}

#[test]
fn a_body_that_breaks_off_changes_nothing() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.call(session, put("kept"), ClientBody::of(*b"before"));
    let body = ClientBody { breaks: true, ..ClientBody::of(vec![7; 1_000_000]) };
    let broken = site.ring(session, put("kept"), body);
    let helpers = "pgrep -f '[b]ulkhead/init files' | wc -l; cat /work/kept; ls -A /work";
    wait_until("the helper is gone", || look(&site, &life, session, helpers) == "0\nbeforekept\n");
    assert!(!site.calls.is_answered(broken));
}

#[test]
fn input_reaches_a_running_command_once_and_survives_a_restart() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = ExecOrder { stdin_open: true, ..site.order(session, "cat; echo end") };
    let id = order.exec_id;
    drop(life.begin(site.grant(&order)));
    site.wait_started(id);
    let say = |offset, text: &str, close| {
        site.call(session, input(id, offset, close), ClientBody::of(text)).reply
    };
    assert_eq!(say(None, "one ", false), CallReply::Stdin { offset: 4, open: true });
    assert_eq!(say(Some(0), "one two ", false), CallReply::Stdin { offset: 8, open: true });
    assert_eq!(say(Some(99), "gap", false), CallReply::Stdin { offset: 8, open: true });
    life.kill();
    let life = site.start();
    assert_eq!(say(None, "three ", true), CallReply::Stdin { offset: 14, open: false });
    let result = site.result(id, &life.exec(&site.grant(&order)));
    assert_eq!(text(&result.stdout), "one two three end\n");
    assert_eq!(say(None, "late", false), CallReply::NotRunning);
}

#[test]
fn short_output_outlives_a_connection_that_broke_before_a_crash() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let command = "echo one; cat; echo end";
    let order = ExecOrder { stdin_open: true, ..site.order(session, command) };
    let id = order.exec_id;
    drop(life.begin(site.grant(&order)));
    let say = |text: &str, close| site.call(session, input(id, None, close), ClientBody::of(text));
    let heard = |text: &str| {
        wait_until("its output", || site.shipped(id, "stdout") == text.as_bytes());
    };
    heard("one\n");
    for (word, so_far) in [("two ", "one\ntwo "), ("three ", "one\ntwo three ")] {
        site.cut_connections();
        assert!(matches!(say(word, false).reply, CallReply::Stdin { open: true, .. }));
        heard(so_far);
    }
    life.kill();
    let life = site.start();
    assert!(matches!(say("four ", true).reply, CallReply::Stdin { open: false, .. }));
    let result = site.result(id, &life.exec(&site.grant(&order)));
    assert_eq!((result.outcome, result.exit_code), (ExecOutcome::Exited, Some(0)));
    assert_eq!(text(&result.stdout), "one\ntwo three four end\n");
    heard("one\ntwo three four end\n");
}

#[test]
fn more_input_than_pid_1_holds_arrives_whole() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = ExecOrder { stdin_open: true, ..site.order(session, "sleep 0.3; sha256sum") };
    let (task, _cancel) = life.begin(site.grant(&order));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    wait_until("it can be talked to", || {
        let what = input(order.exec_id, None, false);
        site.call(session, what, nothing()).reply != CallReply::NotRunning
    });
    let body = ClientBody::of(bytes.clone());
    let reply = site.call(session, input(order.exec_id, None, true), body).reply;
    assert_eq!(reply, CallReply::Stdin { offset: bytes.len() as u64, open: false });
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!(text(&result.stdout), format!("{}  -\n", hex(&Sha256::digest(&bytes))));
}

#[test]
fn a_download_that_nobody_reads_keeps_back_no_command() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    // Many small files, so that the archive comes in many small frames.
    look(
        &site,
        &life,
        session,
        "mkdir many; cd many; head -c 57344000 /dev/zero | split -b 4096 -a 4 -",
    );
    let what = FileRequest::GetArchive {
        path: "many".into(),
        max_bytes: MAX_ARCHIVE_BYTES,
        max_entries: 30_000,
    };
    let stalled = site.ring(session, CallKind::Files(what), ClientBody::stalled());
    wait_until("it is under way", || site.calls.is_stalled(stalled));
    for _ in 0..20 {
        let order = ExecOrder { timeout_ms: 20_000, ..site.order(session, "echo heard") };
        let begun = std::time::Instant::now();
        assert_eq!(text(&site.run(&life, &order).stdout), "heard\n");
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    assert!(!site.calls.is_answered(stalled));
}

#[test]
fn commands_that_print_without_end_keep_back_no_other() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let floods: Vec<_> = (0..2)
        .map(|_| life.begin(site.grant(&site.order(session, "cat /dev/zero & cat /dev/zero >&2"))))
        .collect();
    for _ in 0..10 {
        let order =
            ExecOrder { timeout_ms: 20_000, ..site.order(session, "echo heard; echo so >&2") };
        let result = site.run(&life, &order);
        assert_eq!((text(&result.stdout), text(&result.stderr)), ("heard\n".into(), "so\n".into()));
        assert!(result.duration_ms < 10_000, "{} ms", result.duration_ms);
    }
    for (task, cancel) in floods {
        cancel.cancel();
        life.wait(task);
    }
}

#[test]
fn a_command_without_open_input_or_terminal_says_so() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "sleep 999");
    let id = order.exec_id;
    let (task, cancel) = life.begin(site.grant(&order));
    site.wait_started(id);
    let ask = |what| site.call(session, what, nothing()).reply;
    assert_eq!(ask(input(id, None, true)), CallReply::NotInteractive);
    let size = TerminalSize { rows: 10, cols: 20 };
    assert_eq!(ask(CallKind::Resize { exec_id: id, size }), CallReply::NotInteractive);
    let signal = CallKind::Signal { exec_id: id, signal: 10 };
    let other = site.call(site::session(), signal.clone(), nothing()).reply;
    assert_eq!(other, CallReply::NotRunning, "another session's call");
    assert_eq!(ask(signal), CallReply::Done);
    let result = site.result(id, &life.wait(task));
    assert_eq!(result.signal, Some(10));
    drop(cancel);
}

#[test]
fn a_busy_executor_says_so_and_recovers() {
    let site = Site::new();
    let life = site.start();
    // As many sessions as have all places between them, each with its whole share.
    let commands: Vec<_> = (0..4)
        .map(|_| ExecOrder { stdin_open: true, ..site.order(session(), "sleep 999") })
        .map(|order| (life.begin(site.grant(&order)), order.session_id, order.exec_id))
        .collect();
    for (_, session, exec) in &commands {
        site.wait_started(*exec);
        // Once this is answered, rings are heard, and in their order.
        let signal = CallKind::Signal { exec_id: *exec, signal: 18 };
        assert_eq!(site.call(*session, signal, nothing()).reply, CallReply::Done);
    }
    let endless = || ClientBody { hangs: true, ..nothing() };
    for (_, session, exec) in &commands {
        for _ in 0..16 {
            site.ring(*session, input(*exec, None, false), endless());
        }
    }
    let (_, session, exec) = commands[0];
    let one_too_many = || site.call(session, input(exec, None, false), nothing()).reply;
    // A call that was just answered may have held a place for a moment more.
    wait_until("no place is left", || {
        for (_, session, exec) in &commands {
            site.ring(*session, input(*exec, None, false), endless());
        }
        matches!(one_too_many(), CallReply::Unavailable(why) if why.contains("busy"))
    });
    for ((task, cancel), _, exec) in commands {
        cancel.cancel();
        site.result(exec, &life.wait(task));
    }
    life.kill();
    let _life = site.start();
    wait_until("there is room again", || one_too_many() == CallReply::NotRunning);
}

#[test]
fn a_terminal_has_its_name_and_its_size() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let script = "trap 'stty size; exit' WINCH; echo $TERM; stty size; \
                  while :; do sleep 0.02; done";
    let terminal = Some(TerminalSize { rows: 24, cols: 80 });
    let order = ExecOrder { terminal, ..site.order(session, script) };
    let (task, _cancel) = life.begin(site.grant(&order));
    wait_until("it is ready", || {
        site.shipped(order.exec_id, "stdout") == b"xterm-256color\r\n24 80\r\n"
    });
    let size = TerminalSize { rows: 50, cols: 132 };
    let resized = site.call(session, CallKind::Resize { exec_id: order.exec_id, size }, nothing());
    assert_eq!(resized.reply, CallReply::Done);
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!(text(&result.stdout), "xterm-256color\r\n24 80\r\n50 132\r\n");
}

#[test]
fn a_tool_call_runs_in_its_working_directory() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.call(session, put("notes/a.txt"), ClientBody::of(*b"first\nsecond\n"));
    let call = ToolCall::ReadFile(ReadFile { file_path: "a.txt".into(), offset: 1, limit: 10 });
    let order = ExecOrder {
        kind: ExecKind::Tool,
        cwd: "/work/notes".into(),
        ..site.order(session, &call.to_text())
    };
    let result = site.run(&life, &order);
    assert_eq!(result.exit_code, Some(0), "{}", text(&result.stderr));
    assert!(text(&result.stdout).contains("second"));
}

#[test]
fn a_finished_exec_is_reported_without_the_workflow() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo hello");
    let result = site.run(&life, &order);
    wait_until("it is reported", || site.reported(order.exec_id) == [result.clone()]);
}

#[test]
fn nothing_is_started_once_a_successor_has_enrolled() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "true"));
    site.calls.fence();
    let order = site.order(session, "touch /work/started");
    let never = CancellationToken::new();
    wait_until("it has heard", || {
        let late = site.order(session, "true");
        let end = life.runtime.block_on(life.executor.exec(&site.grant(&late), &never));
        matches!(end, Err(ExecError::Fenced))
    });
    let end = life.runtime.block_on(life.executor.exec(&site.grant(&order), &never));
    assert!(matches!(end, Err(ExecError::Fenced)));
    let files = site::docker(&["exec", &site.container(), "ls", "-A", "/work"]);
    assert_eq!(files, "");
}

#[test]
fn a_command_that_a_call_brings_runs_once_and_its_workflow_joins_it() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo started >> runs; sleep 0.3; cat runs");
    let what = CallKind::Run { request: site.grant(&order) };
    assert_eq!(site.call(session, what.clone(), nothing()).reply, CallReply::Done);
    assert_eq!(site.call(session, what, nothing()).reply, CallReply::Done, "again");
    let result = site.result(order.exec_id, &life.exec(&site.grant(&order)));
    assert_eq!(text(&result.stdout), "started\n");
    wait_until("it is reported", || !site.reported(order.exec_id).is_empty());
    let forged = ToolRequest { grant: "forged".into(), ..site.grant(&site.order(session, "id")) };
    let forged_id = forged.exec_id;
    let what = CallKind::Run { request: forged };
    assert_eq!(site.call(session, what, nothing()).reply, CallReply::Done, "taken, not run");
    let settle = CallKind::Run { request: site.settle(&order) };
    assert_eq!(site.call(session, settle, nothing()).reply, CallReply::NotRunning);
    assert_eq!(look(&site, &life, session, "cat runs"), "started\n");
    assert!(site.reported(forged_id).is_empty());
}

#[test]
fn a_command_that_a_call_brought_is_ended_when_it_is_settled() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "sleep 999");
    let what = CallKind::Run { request: site.grant(&order) };
    assert_eq!(site.call(session, what, nothing()).reply, CallReply::Done);
    site.wait_started(order.exec_id);
    let result = site.result(order.exec_id, &life.exec(&site.settle(&order)));
    assert_eq!(result.outcome, ExecOutcome::Cancelled);
}

#[test]
fn a_call_ends_an_exec_of_its_own_session_only() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "sleep 999");
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    let what = CallKind::Cancel { exec_id: order.exec_id };
    let other = site.call(site::session(), what.clone(), nothing()).reply;
    assert_eq!(other, CallReply::NotRunning, "another session's call");
    assert_eq!(site.call(session, what.clone(), nothing()).reply, CallReply::Done);
    let result = site.result(order.exec_id, &life.wait(task));
    assert_eq!(result.outcome, ExecOutcome::Cancelled);
    assert_eq!(site.call(session, what, nothing()).reply, CallReply::NotRunning);
}

#[test]
fn an_order_that_is_called_off_before_it_comes_never_starts() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "touch /work/started");
    let cancel = CallKind::Cancel { exec_id: order.exec_id };
    assert_eq!(site.call(session, cancel, nothing()).reply, CallReply::NotRunning);
    let late = CallKind::Run { request: site.grant(&order) };
    assert_eq!(site.call(session, late, nothing()).reply, CallReply::Done, "taken, not run");
    let reply = life.exec(&site.grant(&order));
    assert_eq!(site.why(order.exec_id, &reply), NotStarted::Cancelled);
    assert_eq!(look(&site, &life, session, "test -e started || echo no"), "no\n");
}

#[test]
fn an_order_that_ended_before_its_start_does_not_start_by_the_other_way() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = ExecOrder { cwd: "/work/later".into(), ..site.order(session, "touch started") };
    let reply = life.exec(&site.grant(&order));
    assert_eq!(site.why(order.exec_id, &reply), NotStarted::CwdMissing);
    look(&site, &life, session, "mkdir later");
    let late = CallKind::Run { request: site.grant(&order) };
    assert_eq!(site.call(session, late, nothing()).reply, CallReply::Done, "taken, not run");
    let reply = life.exec(&site.grant(&order));
    assert_eq!(site.why(order.exec_id, &reply), NotStarted::CwdMissing);
    assert_eq!(look(&site, &life, session, "ls -A later"), "");
}

#[test]
fn downloads_that_nobody_reads_on_keep_no_other_session_waiting() {
    let (site, slow, other) = (Site::new(), session(), session());
    let life = site.start();
    look(&site, &life, slow, "head -c 20000000 /dev/zero > big");
    look(&site, &life, other, "echo here > small");
    let stalled: Vec<_> =
        (0..16).map(|_| site.ring(slow, get("big"), ClientBody::stalled())).collect();
    wait_until("all of them stall", || stalled.iter().all(|call| site.calls.is_stalled(*call)));
    // The session has its share; whoever signals, or works elsewhere, is served.
    match site.call(slow, get("big"), nothing()).reply {
        CallReply::Busy(why) => assert!(why.contains("the session has 16 calls"), "{why}"),
        reply => panic!("{reply:?}"),
    }
    let signal = CallKind::Signal { exec_id: uuid::Uuid::now_v7().into(), signal: 15 };
    assert_eq!(site.call(slow, signal, nothing()).reply, CallReply::NotRunning);
    let got = site.call(other, get("small"), nothing());
    assert!(got.whole && got.bytes == b"here\n", "{:?}", got.reply);
}
