//! `bulkhead policy` and `bulkhead approvals`: offline, and against the real stack.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tests::{Stack, TestTenant};

const LOOSE: &str = r#"
@id("reads") permit (principal, action == Action::"AutoApprove", resource)
when { context.understood && ["read"].containsAll(context.effects) };
@id("touches") permit (principal, action == Action::"AutoApprove", resource)
when { context.program == "touch" };
"#;
const STRICT: &str = r#"
@id("no-touch") @reason("nothing is touched here")
forbid (principal, action == Action::"Run", resource) when { context.program == "touch" };
"#;

fn file(name: &str, text: &str) -> PathBuf {
    let path = Stack::shared().data_dir().join(format!("{name}.cedar"));
    std::fs::write(&path, text).expect("a file");
    path
}

fn run(arguments: &[&str]) -> Output {
    Stack::shared().cli(arguments).output().expect("the program starts")
}

fn in_tenant(arguments: &[&str]) -> Output {
    let (command, rest) = arguments.split_at(2);
    run(&[command, &["--tenant", "initech"], rest].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn ok(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

fn check(policy: &std::path::Path, questions: &str) -> Output {
    let arguments = ["policy", "check", "--policy", policy.to_str().expect("text"), "--json"];
    let mut command = Stack::shared().cli(&arguments);
    command.env("BULKHEAD_DATA_DIR", "/nonexistent");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the program starts");
    let mut input = child.stdin.take().expect("its input");
    let questions = questions.to_owned();
    let writer = std::thread::spawn(move || {
        let _ = input.write_all(questions.as_bytes());
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("it writes");
    output
}

#[test]
fn check_answers_a_line_for_a_line_in_order() {
    let policy = file("check", LOOSE);
    let questions = "{\"id\":\"a\",\"command\":\"ls\"}\n{\"id\":2,\"command\":\"rm -rf x\"}\n\
                     {\"id\":\"c\",\"command\":\"touch x\",\"cwd\":\"/work/a\",\"role\":\"owner\"}";
    let output = check(&policy, questions);
    let answers: Vec<Value> =
        ok(output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let decided: Vec<(&Value, &Value)> =
        answers.iter().map(|answer| (&answer["id"], &answer["decision"])).collect();
    assert_eq!(
        decided,
        [
            (&json!("a"), &json!("allow")),
            (&json!(2), &json!("ask")),
            (&json!("c"), &json!("allow")),
        ]
    );
    assert_eq!(answers[2]["rules"], json!(["touches"]));
    assert!(answers[1]["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()));
    assert_eq!(answers[0]["facts"][0]["program"], "ls");
}

#[test]
fn check_bears_whatever_comes() {
    let policy = file("hostile", LOOSE);
    let commands = [
        "ls\0x".to_owned(),
        "x".repeat(200_000),
        "true && ".repeat(10_000) + "true",
        "(".repeat(10_000),
        "ls \u{202e}".into(),
        "echo \u{1b}[2K".into(),
    ];
    let questions: Vec<String> =
        commands.iter().map(|command| json!({ "command": command }).to_string()).collect();
    let answers = ok(check(&policy, &questions.join("\n")));
    assert_eq!(answers.lines().count(), commands.len());
    assert!(!answers.contains(r#""decision":"allow""#));
    let broken = check(&policy, "{\"command\":\"ls\"}\nnonsense\n{\"command\":\"ls\"}\n");
    assert_eq!(broken.status.code(), Some(1));
    assert_eq!(text(&broken.stdout).lines().count(), 2);
    assert!(text(&broken.stderr).contains("line 2"), "{broken:?}");
}

#[test]
fn an_invalid_policy_exits_2_with_line_and_column() {
    let policy = "@id(\"a\")\npermit (principal, action, resource) when { context.nope == 1 };\n";
    let output = check(&file("invalid", policy), "{\"command\":\"ls\"}\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let said = text(&output.stderr);
    assert!(said.contains("line 2, column 45"), "{said}");
}

#[test]
fn explain_needs_no_server_with_a_file() {
    let policy = file("explain", LOOSE);
    let mut command = Stack::shared().cli(&[
        "policy",
        "explain",
        "--policy",
        policy.to_str().expect("text"),
        "--",
        "touch a | cat",
    ]);
    let said = ok(command.env("BULKHEAD_DATA_DIR", "/nonexistent").output().expect("starts"));
    for part in ["a plain script:", "   | \"cat\"", "allow, by", "touches"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_codex_rule_file_becomes_a_policy() {
    let rules = "prefix_rule(pattern = [\"git\", \"push\"], decision = \"forbidden\")\n";
    let rules = file("codex", rules);
    let policy = ok(run(&["policy", "import", rules.to_str().expect("text")]));
    let answers = ok(check(&file("imported", &policy), "{\"command\":\"git push origin\"}\n"));
    assert!(answers.contains(r#""decision":"deny""#), "{policy}\n{answers}");
    let broken = run(&["policy", "import", file("broken", "prefix_rule(").to_str().expect("text")]);
    assert_eq!(broken.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_set_used_tightened_and_compared() {
    let tenant = TestTenant::shared(Stack::shared()).await;
    let (loose, strict) = (file("loose", LOOSE), file("strict", STRICT));
    let set = |path: &PathBuf| in_tenant(&["policy", "set", path.to_str().expect("text")]);
    let version = tenant.base + 1;
    assert_eq!(ok(set(&loose)).trim(), format!("version {version} is active"));
    let session = tenant.session().await;
    assert_eq!(session.run("touch a").await["state"], "exited");
    let exec = |command| {
        let mut cli = Stack::shared().cli(&[
            "exec",
            "--session",
            &session.id,
            "--tenant",
            "initech",
            "--",
            command,
        ]);
        cli.output().expect("starts")
    };
    assert_eq!(exec("touch a").status.code(), Some(0));

    let simulated = in_tenant(&[
        "policy",
        "simulate",
        "--policy",
        strict.to_str().expect("text"),
        "--since",
        "1h",
    ]);
    assert!(ok(simulated).contains("allow -> deny"));
    ok(set(&strict));
    assert_eq!(exec("touch a").status.code(), Some(126));
    let explained = ok(in_tenant(&["policy", "explain", "--", "touch a"]));
    assert!(explained.contains("no-touch"), "{explained}");

    let shown = ok(in_tenant(&["policy", "show"]));
    assert_eq!(shown.trim(), STRICT.trim());
    let earlier = version.to_string();
    let diff = ok(in_tenant(&["policy", "diff", &earlier]));
    assert!(
        diff.contains("\n-@id(\"touches\")") && diff.contains("\n+@id(\"no-touch\")"),
        "{diff}"
    );
    let versions = ok(in_tenant(&["policy", "versions", "--json"]));
    let newest: Value = serde_json::from_str(versions.lines().next().expect("one")).expect("JSON");
    assert_eq!(newest["version"], version + 1);

    let bad = set(&file("bad", "permit (principal, action, resource);"));
    assert_eq!(bad.status.code(), Some(2));
    let stale = in_tenant(&["policy", "set", loose.to_str().expect("text"), "--expect", &earlier]);
    assert_eq!(stale.status.code(), Some(1));
    assert!(text(&stale.stderr).contains("policy_changed"), "{stale:?}");
    assert_eq!(ok(in_tenant(&["policy", "show"])).trim(), STRICT.trim());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approvals_are_answered_for_a_session_or_with_a_reason() {
    let session = Stack::shared().session().await;
    let exec = session.submit(json!({ "command": "touch cli" })).await;
    let id = session.approval_of(&exec).await;
    let shown = ok(run(&["approvals", "show", &id]));
    assert!(shown.contains("touch cli"), "{shown}");
    let proposed = ok(run(&["approvals", "propose", &id]));
    assert!(proposed.contains("permit (principal") && proposed.contains("\"touch\""), "{proposed}");
    ok(run(&["approvals", "approve", &id, "--session"]));
    assert_eq!(session.wait(&exec).await["state"], "exited");
    assert_eq!(session.run("touch cli").await["state"], "exited");
    let exec = session.submit(json!({ "command": "touch other" })).await;
    let id = session.approval_of(&exec).await;
    ok(run(&["approvals", "deny", &id, "--reason", "not on my watch"]));
    let exec = session.wait(&exec).await;
    assert!(exec["error"]["message"].as_str().is_some_and(|m| m.contains("not on my watch")));
}
