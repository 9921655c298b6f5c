//! Reading with git needs nobody where the repository cannot make git run anything else. Where it
//! could, somebody is asked, and nothing of the repository's runs before.

use serde_json::{Value, json};
use tests::{Stack, TestSession};

/// What a hostile repository runs.
const PAYLOAD: &str = "touch /work/pwned; cat";

/// Makes a repository with a commit and a change in `/work/NAME`, then goes on with `script` in it.
async fn make(session: &TestSession, name: &str, script: &str) {
    let command = format!(
        "set -e; git init -q {name}; cd {name}; echo a > a.txt; git add a.txt
         git -c user.name=a -c user.email=a@b commit -qm one; echo b >> a.txt
         P='{PAYLOAD}'; {script}"
    );
    let made = session.run_approved(json!({ "command": command })).await;
    assert_eq!(made["exit_code"], 0, "{name}: {made}");
}

/// Runs what has to need nobody; gives its output.
async fn read(session: &TestSession, command: &str) -> String {
    let exec = session.run(command).await;
    assert_eq!(exec["decision"]["decided_by"], "policy", "{command}: {exec}");
    assert_eq!((&exec["state"], &exec["exit_code"]), (&json!("exited"), &json!(0)), "{exec}");
    String::from_utf8(session.output(&exec, "stdout").await).expect("text")
}

async fn assert_nothing_ran(session: &TestSession, what: &str) {
    assert!(!read(session, "ls /work").await.contains("pwned"), "{what} ran something");
}

#[tokio::test]
async fn reading_a_plain_repository_needs_nobody() {
    let session = Stack::shared().session().await;
    make(&session, "repo", "mkdir src").await;
    assert_eq!(read(&session, "cd repo && git status --short").await, " M a.txt\n");
    assert!(read(&session, "cd repo && git diff").await.contains("\n+b\n"));
    assert!(read(&session, "cd repo/src && git log --oneline").await.ends_with(" one\n"));
    assert!(
        read(&session, "cd repo && git show HEAD:a.txt && git status").await.starts_with("a\n")
    );
    let exec = session.submit(json!({ "command": "git branch", "cwd": "/work/repo" })).await;
    assert_eq!(session.wait(&exec).await["exit_code"], 0);
    let exec = session.run("git status").await;
    assert_eq!(exec["exit_code"], 128, "there is no repository there: {exec}");
}

#[tokio::test]
async fn a_repository_that_could_run_programs_is_asked_about_and_runs_none() {
    let session = Stack::shared().session().await;
    let cases = [
        ("fsmonitor", "git config core.fsmonitor \"$P\""),
        ("external", "git config diff.external \"$P\""),
        (
            "textconv",
            "echo '*.txt diff=x' > .gitattributes; git config diff.x.textconv \"$P\"",
        ),
        ("filter", "echo '* filter=x' > .gitattributes; git config filter.x.clean \"$P\""),
        (
            "attributes",
            "echo '* filter=x' > .git/info/attributes; git config filter.x.process \"$P\"",
        ),
        (
            "lfs",
            "echo '*.txt filter=lfs diff=lfs merge=lfs -text' > .gitattributes
             git config filter.lfs.process \"$P\"; git config filter.lfs.required true",
        ),
        (
            "include",
            "git config -f evil core.fsmonitor \"$P\"; git config include.path ../evil",
        ),
        ("pager", "git config core.pager \"$P\"; git config pager.diff \"$P\""),
        (
            "hooks",
            "mkdir h; printf '#!/bin/sh\\ntouch /work/pwned' > h/post-index-change
             chmod +x h/*; git config core.hooksPath \"$PWD/h\"",
        ),
        ("alias", "git config alias.diff \"!$P\""),
        ("worktree", "git config core.worktree /work"),
        (
            "submodule",
            "git init -q sub; git -C sub -c user.name=a -c user.email=a@b commit -q --allow-empty -m x
             git add sub; git -C sub config core.fsmonitor \"$P\"",
        ),
        (
            "gitfile",
            "git config core.fsmonitor \"$P\"; mv .git ../own; echo 'gitdir: ../own' > .git",
        ),
        (
            "link",
            "git config core.fsmonitor \"$P\"; mv .git ../other; ln -s ../other .git",
        ),
        (
            "settingslink",
            "git config core.fsmonitor \"$P\"; mv .git/config ../c; ln -s ../../c .git/config",
        ),
        ("split", "git update-index --split-index"),
        ("continued", "printf '[user]\\n\\tname = a\\\\\\n[diff]\\n\\texternal = x\\n' >> .git/config"),
    ];
    for (name, script) in cases {
        make(&session, name, script).await;
        for read in ["git diff", "git status"] {
            assert_asked(&session, &format!("cd {name} && {read}"), name).await;
        }
    }
    make(
        &session,
        "bare",
        "git init -q --bare b; git -C b config core.bare false
         git -C b config core.worktree /work; git -C b config core.fsmonitor \"$P\"",
    )
    .await;
    assert_asked(&session, "cd bare/b && git status", "bare").await;
    assert_nothing_ran(&session, "no case").await;
}

async fn assert_asked(session: &TestSession, command: &str, name: &str) {
    let exec = session.submit(json!({ "command": command })).await;
    let id = session.approval_of(&exec).await;
    let approval = session.reviewer.get(&format!("/v1/approvals/{id}")).await.expect(200);
    let reasons = approval["reasons"].to_string();
    assert!(reasons.contains("git may run other programs there"), "{name}: {reasons}");
    session.decide(&id, "deny", None).await;
    assert_eq!(session.wait(&exec).await["state"], "denied", "{name}");
    assert_nothing_ran(session, name).await;
}

#[tokio::test]
async fn settings_outside_of_the_repository_do_not_count() {
    let session = Stack::shared().session().await;
    let script = "echo '* filter=x diff=x' > .gitattributes
        export HOME=/work; mkdir -p /work/.config/git
        for file in /work/.gitconfig /work/.config/git/config; do
            for name in core.fsmonitor diff.external core.pager filter.x.clean diff.x.textconv; do
                git config -f \"$file\" \"$name\" \"$P\"
            done
        done";
    make(&session, "repo", script).await;
    for command in ["git status", "git diff", "git log -p", "git blame a.txt", "git grep -n a"] {
        read(&session, &format!("cd repo && {command}")).await;
        assert_nothing_ran(&session, command).await;
    }
    // The payload is one: what people approve runs as it is.
    let exec = session.run_approved(json!({ "command": "cd repo && git diff; ls" })).await;
    assert_eq!(exec["exit_code"], 0, "{exec}");
    assert!(read(&session, "ls /work").await.contains("pwned"));
}

#[tokio::test]
async fn what_people_approve_runs_although_it_could_run_more() {
    let session = Stack::shared().session().await;
    make(&session, "repo", "git worktree add -q ../other").await;
    let command = json!({ "command": "cd other && git status --short" });
    let exec = session.submit(command.clone()).await;
    let id = session.approval_of(&exec).await;
    let path = format!("/v1/approvals/{id}/decision");
    let yes = json!({ "decision": "approve", "scope": "session" });
    session.reviewer.post(&path, yes).await.expect(200);
    let exec = session.wait(&exec).await;
    assert_eq!((&exec["state"], &exec["exit_code"]), (&json!("exited"), &json!(0)), "{exec}");
    let events = session.reviewer.audit_of(&session.id).await;
    let of_it =
        |event: &&Value| event["object"] == exec["exec_id"] && event["action"] == "exec.authorize";
    let outcomes: Vec<_> = events.iter().filter(of_it).map(|event| &event["outcome"]).collect();
    assert_eq!(outcomes.len(), 3, "allowed, then asked about, then allowed: {outcomes:?}");
    // And the answer holds for the session.
    let again = session.submit(command).await;
    assert_eq!(session.wait(&again).await["state"], "exited");
}
