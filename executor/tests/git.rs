//! Git disarmed by the executor, on a real Docker: what is unfit does not start, and what changes
//! after it was looked at meets an environment that outranks it.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use domain::exec::ExecOutcome;
use protocol::calls::{CallKind, CallReply};
use protocol::checks::{Checks, Unfit};
use protocol::exec::{ExecOrder, NotStarted, ToolRequest};
use protocol::files::{FileReply, FileRequest, MAX_FILE_BYTES};
use site::switchboard::ClientBody;
use site::{Life, Site, session, text};

fn disarmed(site: &Site, order: &ExecOrder, folder: &str) -> ToolRequest {
    let checks = Checks { git_folders: vec![folder.to_owned()], ..Checks::default() };
    site.grant(&ExecOrder { checks, ..order.clone() })
}

#[test]
fn what_was_refused_once_stays_refused_under_such_a_grant_only() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let make = "git init -q repo; git -C repo config diff.external x; mkdir empty";
    site.run(&life, &site.order(session, make));
    let order = site.order(session, "cd repo && git status --short && echo ran");
    let request = disarmed(&site, &order, "/work/repo");
    let why = |life: &Life| site.why(order.exec_id, &life.exec(&request));
    assert_eq!(why(&life), NotStarted::Unfit(Unfit::Setting));
    site.run(&life, &site.order(session, "git -C repo config --unset diff.external"));
    // By now, somebody may be asked about it.
    assert_eq!(why(&life), NotStarted::Unfit(Unfit::Setting));
    life.kill();
    let life = site.start();
    assert_eq!(why(&life), NotStarted::Unfit(Unfit::Setting));
    let result = site.result(order.exec_id, &life.exec(&site.grant(&order)));
    assert_eq!(text(&result.stdout), "ran\n");
    let order = site.order(session, "cd repo && git status --short && echo ran");
    let reply = life.exec(&disarmed(&site, &order, "/work/repo"));
    assert_eq!(text(&site.result(order.exec_id, &reply).stdout), "ran\n");
}

#[test]
fn the_environment_alone_outranks_what_has_a_name() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let make = "set -e; git init -q repo; mkdir empty; cd repo; echo a > a; git add a
        git -c user.name=a -c user.email=a@b commit -qm one; echo b >> a
        printf '#!/bin/sh\\ntouch /work/pwned\\n' > ../evil; chmod +x ../evil; mkdir hooks
        for hook in post-index-change post-checkout pre-auto-gc; do cp ../evil hooks/$hook; done
        for name in core.fsmonitor core.pager pager.status pager.diff pager.log core.editor \\
            core.sshCommand core.askPass gpg.program core.alternateRefsCommand; do
            git config $name /work/evil
        done
        git config core.hooksPath \"$PWD/hooks\"; git config log.showSignature true
        git config status.submoduleSummary true; git config diff.submodule log
        git init -q --bare inner; git -C inner config core.fsmonitor /work/evil
        git -C inner config core.bare false; git -C inner config core.worktree /work/repo";
    assert_eq!(site.run(&life, &site.order(session, make)).exit_code, Some(0));
    let run = |command: &str| {
        let order = site.order(session, command);
        // As if the repository had changed after it was looked at.
        let result =
            site.result(order.exec_id, &life.exec(&disarmed(&site, &order, "/work/empty")));
        text(&result.stdout)
    };
    let all =
        "cd repo; git status --short; git diff; git log -p; git show; git branch; git blame a;
        git grep -n a; git ls-files -m; git describe --always; git stash list; cd inner; git status
        test -e /work/pwned || echo clean";
    let output = run(all);
    assert!(output.contains("\n+b\n") && output.ends_with("clean\n"), "{output}");
    // It does run where git is not disarmed.
    let armed = site.run(&life, &site.order(session, "cd repo; git status; test -e ../pwned"));
    assert_eq!(armed.exit_code, Some(0));
}

#[test]
fn a_read_that_is_called_off_while_it_waits_for_the_files_never_starts() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "git init -q repo; mkfifo gate"));
    let first = site.order(session, "cat gate");
    let (reading, _cancel) = life.begin(disarmed(&site, &first, "/work/repo"));
    site.wait_started(first.exec_id);
    let second = site.order(session, "touch /work/started");
    let request = disarmed(&site, &second, "/work/repo");
    let (waiting, cancel) = life.begin(request.clone());
    // It was first at the sandbox: once another one is through, it waits for the files.
    site.run(&life, &site.order(session, "true"));
    assert!(!waiting.is_finished());
    cancel.cancel();
    assert_eq!(site.why(second.exec_id, &life.wait(waiting)), NotStarted::Cancelled);
    site.run(&life, &site.order(session, "echo go > gate"));
    assert_eq!(site.result(first.exec_id, &life.wait(reading)).outcome, ExecOutcome::Exited);
    // The same permission, which is still good, by another way.
    assert_eq!(site.why(second.exec_id, &life.exec(&request)), NotStarted::Cancelled);
    let look = site.run(&life, &site.order(session, "test -e started || echo no"));
    assert_eq!(text(&look.stdout), "no\n");
}

#[test]
fn files_stay_as_they_are_for_a_read_that_outlives_its_executor() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    site.run(&life, &site.order(session, "git init -q repo; mkfifo gate"));
    let order = site.order(session, "cat gate; test -e repo/new || echo as it was");
    let request = disarmed(&site, &order, "/work/repo");
    let _cut_short = life.begin(request.clone());
    site.wait_started(order.exec_id);
    life.kill();
    let life = site.start();
    let put = FileRequest::Put { path: "repo/new".into(), max_bytes: MAX_FILE_BYTES, mode: None };
    let upload = site.ring(session, CallKind::Files(put), ClientBody::of(*b"x"));
    // Who only reads is served, one after the other: time enough for the upload, if it did not wait.
    for _ in 0..5 {
        let list = FileRequest::List { path: "repo".into(), after: None, limit: 10 };
        let listed = site.call(session, CallKind::Files(list), ClientBody::default()).reply;
        assert!(matches!(listed, CallReply::Files(FileReply::List { .. })), "{listed:?}");
    }
    assert!(!site.calls.is_answered(upload), "a file changed while git rested on it");
    site.run(&life, &site.order(session, "echo go > gate"));
    let result = site.result(order.exec_id, &life.exec(&request));
    assert_eq!(text(&result.stdout), "go\nas it was\n");
    let uploaded = site.calls.wait(upload).reply;
    assert!(matches!(uploaded, CallReply::Files(FileReply::Put { .. })), "{uploaded:?}");
}
