//! Decisions under the shipped policy and under policies of a tenant.

use super::*;
use crate::facts::NamedPath;

fn request(command: &str) -> CommandRequest<'_> {
    CommandRequest { command, cwd: "/work", git_hardened: true, ..CommandRequest::default() }
}

fn shipped(command: &str) -> Outcome {
    Engine::shipped().decide(&request(command)).outcome
}

fn under(policy: &str, command: &str) -> Decision {
    Engine::load(policy).unwrap().decide(&request(command))
}

#[test]
fn the_shipped_policy_passes_its_own_tests() {
    let engine = Engine::load(SHIPPED_POLICY).unwrap();
    assert_eq!(engine.rule_ids(), ["shipped-read-only"]);
}

#[test]
fn what_only_reads_needs_nobody() {
    for command in
        ["true", "echo hello world", "pwd", "ls -la src", "cat notes.txt | wc -l", "git status"]
    {
        assert_eq!(shipped(command), Outcome::Allow, "{command:?}");
    }
}

#[test]
fn a_policy_that_is_empty_asks_about_everything() {
    for policy in ["", "\n// nothing\n"] {
        let decision = under(policy, "ls");
        assert_eq!(decision.outcome, Outcome::Ask);
        assert_eq!(decision.rules, ["default-ask"]);
    }
}

#[test]
fn a_tool_is_judged_like_a_program() {
    let decide = |name, writes| {
        let request = ToolRequest { name, text: "{}", writes, ..ToolRequest::default() };
        Engine::shipped().decide_tool(&request).outcome
    };
    assert_eq!(decide("read_file", false), Outcome::Allow);
    assert_eq!(decide("apply_patch", true), Outcome::Ask);
}

#[test]
fn a_forbid_on_run_denies_even_what_is_permitted() {
    let policy = r#"
        @id("all") permit (principal, action, resource);
        @id("no-rm") @reason("nothing is removed here")
        forbid (principal, action == Action::"Run", resource) when { context.program == "rm" };
    "#;
    let decision = under(policy, "ls && rm -rf build");
    assert_eq!(decision.outcome, Outcome::Deny);
    assert_eq!(decision.rules, ["no-rm"]);
    assert_eq!(decision.reasons, ["nothing is removed here"]);
    assert_eq!(under(policy, "ls").outcome, Outcome::Allow);
    assert_eq!(under(policy, "nice rm x").outcome, Outcome::Deny);
}

#[test]
fn no_permit_lifts_the_guard() {
    let policy = r#"@id("all") permit (principal, action, resource);"#;
    for command in ["make SHELL=x", "ls > a", "sh -c ls", "unknown", "cat /etc/passwd", "rm -rf /"]
    {
        let decision = under(policy, command);
        assert_eq!(decision.outcome, Outcome::Ask, "{command}");
        assert_eq!(decision.rules, ["guard-not-understood"], "{command}");
    }
}

const EXACT: &str = r#"
    @id("deploy") @exact
    permit (principal, action == Action::"AutoApprove", resource)
    when { context.line == "./deploy.sh --now" || ["for i in 1 2; do ls; done", "timeout 5 ./x"].contains(context.line) };
"#;

#[test]
fn an_exact_permit_approves_that_text_and_nothing_else() {
    for command in
        ["./deploy.sh --now", "./deploy.sh  --now", "for i in 1 2; do ls; done", "timeout 5 ./x"]
    {
        assert_eq!(under(EXACT, command).outcome, Outcome::Allow, "{command}");
    }
    for command in [
        "./deploy.sh",
        "./deploy.sh --now x",
        "./deploy.sh --now; ls",
        "./deploy.sh --now && id",
        "./x",
        "ls",
    ] {
        assert_eq!(under(EXACT, command).outcome, Outcome::Ask, "{command}");
    }
    let with_env = CommandRequest { has_env: true, ..request("./deploy.sh --now") };
    assert_eq!(Engine::load(EXACT).unwrap().decide(&with_env).outcome, Outcome::Ask);
}

#[test]
fn an_exact_permit_does_not_vouch_for_what_follows() {
    let texts = r#"["cd /etc", "source ./env.sh", ". ./env.sh", "alias ls=id", "./build.sh"].contains(context.line)"#;
    let exact = format!(
        "@id(\"e\") @exact permit (principal, action == Action::\"AutoApprove\", resource) when {{ {texts} }};"
    );
    let policy = format!("{SHIPPED_POLICY}{exact}");
    for command in [
        "cd /etc && cat passwd",
        "source ./env.sh && ls",
        ". ./env.sh; ls",
        "alias ls=id\nls",
        "source ./env.sh; pwd | wc -l",
    ] {
        assert_eq!(under(&policy, command).outcome, Outcome::Ask, "{command}");
    }
    for command in [
        "cd /etc",
        "source ./env.sh",
        "./build.sh && ls",
        "ls && ./build.sh",
        "source ./env.sh | wc -l; ls",
    ] {
        assert_eq!(under(&policy, command).outcome, Outcome::Allow, "{command}");
    }
}

#[test]
fn an_exact_permit_that_compares_anything_else_does_not_load() {
    for (scope, condition) in [
        ("action == Action::\"AutoApprove\"", "when { context.line like \"./d*\" }"),
        ("action == Action::\"AutoApprove\"", "when { context.program == \"x\" }"),
        ("action == Action::\"AutoApprove\"", "when { context.line == \"x\" && true }"),
        ("action == Action::\"AutoApprove\"", "when { context.line != \"x\" }"),
        ("action == Action::\"AutoApprove\"", "when { !(context.line == \"x\") }"),
        ("action == Action::\"AutoApprove\"", "when { context.line == \"x\" } when { true }"),
        ("action == Action::\"AutoApprove\"", "unless { context.line == \"x\" }"),
        ("action == Action::\"AutoApprove\"", "when { context.line == context.line }"),
        (
            "action == Action::\"AutoApprove\"",
            "when { context.line == \"x\" || context.understood }",
        ),
        (
            "action == Action::\"AutoApprove\"",
            "when { if true then true else context.line == \"x\" }",
        ),
        (
            "action == Action::\"AutoApprove\"",
            "when { [\"x\", context.line].contains(context.line) }",
        ),
        ("action == Action::\"AutoApprove\"", "when { context.operands.contains(context.line) }"),
        ("action == Action::\"AutoApprove\"", "when { \"x\" == \"x\" }"),
        ("action == Action::\"AutoApprove\"", ""),
        ("action", "when { context.line == \"x\" }"),
        ("action in [Action::\"AutoApprove\", Action::\"Run\"]", "when { context.line == \"x\" }"),
    ] {
        let policy =
            format!("\n@id(\"e\") @exact\npermit (principal, {scope}, resource) {condition};");
        let error = Engine::load(&policy).unwrap_err();
        assert_eq!((error.line, error.column), (2, 1), "{condition}");
        assert!(error.message.contains("@exact"), "{error}");
    }
    let forbid = "@id(\"e\") @exact forbid (principal, action == Action::\"AutoApprove\", resource) when { context.line == \"x\" };";
    assert!(Engine::load(forbid).is_err());
}

#[test]
fn an_ask_rule_names_its_approvers() {
    let policy = r#"
        @id("reads") permit (principal, action == Action::"AutoApprove", resource);
        @id("prod") @approvers("2") @approver_role("owner") @reason("production")
        forbid (principal, action == Action::"AutoApprove", resource)
        when { resource.environment == "production" };
    "#;
    let engine = Engine::load(policy).unwrap();
    let subject = Subject { environment: "production", ..Subject::default() };
    let decision = engine.decide(&CommandRequest { subject, ..request("ls") });
    assert_eq!(decision.outcome, Outcome::Ask);
    assert_eq!(decision.rules, ["prod"]);
    assert_eq!(decision.approvers, Approvers { count: 2, roles: vec!["owner".into()] });
    assert_eq!(engine.decide(&request("ls")).outcome, Outcome::Allow);
    // It asks for two also where nothing was understood.
    let decision = engine.decide(&CommandRequest { subject, ..request("x > y") });
    assert_eq!(decision.approvers.count, 2);
}

#[test]
fn mistakes_have_a_place() {
    for (policy, place, part) in [
        ("permit (principal, action, resource);", (1, 1), "@id"),
        (
            "@id(\"a\") permit (principal, action, resource);\n @id(\"a\") forbid (principal, action, resource);",
            (2, 2),
            "same id",
        ),
        (
            "@id(\"a\")\npermit (principal, action, resource) when { context.programm == \"x\" };",
            (2, 45),
            "programm",
        ),
        (
            "@id(\"a\")\npermit (principal, action, resource) when {\n  context.program == 1 };",
            (3, 3),
            "",
        ),
        ("@id(\"a\") permit (principal, action == Action::\"Walk\", resource);", (1, 39), "Walk"),
        ("@id(\"a\") permit (principal, action, resource)", (1, 46), ""),
        ("@id(\"ä\") permit (principal, action resource);", (1, 36), "resource"),
        ("@id(\"a\") @exakt permit (principal, action, resource);", (1, 1), "@exakt"),
        (
            "@id(\"a\") @approvers(\"0\") forbid (principal, action, resource);",
            (1, 1),
            "@approvers",
        ),
        ("@id(\"a\") @approvers(\"2\") permit (principal, action, resource);", (1, 1), "forbid"),
        (
            "@id(\"a\") @approver_role(\"agent\") forbid (principal, action, resource);",
            (1, 1),
            "owner",
        ),
        ("@id(\"default-ask\") permit (principal, action, resource);", (1, 1), "own"),
        ("@id(\"a\") permit (principal == ?principal, action, resource);", (1, 31), ""),
        ("// test: allow: ls", (1, 1), "should be allow, is ask"),
        ("\n// test: alow: ls", (2, 1), "a test reads"),
    ] {
        let error = Engine::load(policy).unwrap_err();
        assert!(error.message.contains(part), "{policy}: {error}");
        assert_eq!((error.line, error.column), place, "{policy}: {error}");
    }
}

#[test]
fn hostile_policies_are_refused_in_time() {
    for policy in [
        format!(
            "@id(\"a\") permit (principal, action, resource) when {{ {}true{} }};",
            "(".repeat(50_000),
            ")".repeat(50_000)
        ),
        format!(
            "@id(\"a\") permit (principal, action, resource) when {{ {}true }};",
            "!".repeat(50_000)
        ),
        "x".repeat(300_000),
        "@id(\"a\") permit (principal, action, resource);".repeat(600),
        "\"".into(),
        "permit".into(),
    ] {
        assert!(Engine::load(&policy).is_err());
    }
}

#[test]
fn a_long_policy_is_evaluated_whatever_the_stack_of_the_caller() {
    let lines = vec!["context.line == \"x\""; 490].join(" || ");
    let policy = format!(
        "@id(\"a\") forbid (principal, action == Action::\"Run\", resource) when {{ {lines} }};"
    );
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    let outcome = small.spawn(move || under(&policy, "x").outcome).unwrap().join().unwrap();
    assert_eq!(outcome, Outcome::Deny);
}

#[test]
fn many_exact_texts_fit_into_a_set() {
    let texts: Vec<String> = (0..2000).map(|i| format!("\"./run-{i}.sh\"")).collect();
    let policy = format!(
        "@id(\"a\") @exact permit (principal, action == Action::\"AutoApprove\", resource) when {{ [{}].contains(context.line) }};",
        texts.join(",")
    );
    assert_eq!(under(&policy, "./run-1999.sh").outcome, Outcome::Allow);
    assert_eq!(under(&policy, "./run-2000.sh").outcome, Outcome::Ask);
}

#[test]
fn what_cannot_be_evaluated_asks() {
    let policy = r#"
        @id("all") permit (principal, action, resource);
        @id("broken") forbid (principal, action == Action::"Run", resource)
        when { 9223372036854775807 + 1 == 0 };
    "#;
    let decision = under(policy, "ls");
    assert_eq!((decision.outcome, decision.rules[0].as_str()), (Outcome::Ask, "evaluation-error"));
}

#[test]
fn decisions_survive_their_journey_through_json() {
    let decision = shipped_decision("ls && rm x");
    let json = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision);
    // What was recorded before facts had all their fields is still read.
    let old = r#"{"outcome":"ask","rules":["default-ask"],"reasons":["x"],"facts":[{"program":"","line":"x","understood":false}]}"#;
    assert_eq!(serde_json::from_str::<Decision>(old).unwrap().outcome, Outcome::Ask);
}

fn shipped_decision(command: &str) -> Decision {
    Engine::shipped().decide(&request(command))
}

#[test]
fn the_folders_of_git_are_named() {
    let decision = shipped_decision("cd a && git status && git log -1");
    assert_eq!(decision.git_folders(), ["/work/a"]);
    assert!(shipped_decision("ls").git_folders().is_empty());
}

#[test]
fn what_is_named_is_looked_at_before_it_runs() {
    let named = |command: &str, cwd: &str| {
        let request = CommandRequest { command, cwd, ..CommandRequest::default() };
        let decision = Engine::shipped().decide(&request);
        assert_eq!(decision.outcome, Outcome::Allow, "{command}");
        let show = |path: NamedPath<'_>| {
            format!("{}{}", path.path, if path.follows_links { " and links" } else { "" })
        };
        decision.named_paths().into_iter().map(show).collect::<Vec<_>>()
    };
    for (command, cwd, expected) in [
        ("echo a /etc", "/work", vec![]),
        ("ls", "/work/", vec![]),
        ("ls", "/work/src", vec!["/work/src"]),
        ("cat a ./b /work/a -", "/work", vec!["/work/./b", "/work/a"]),
        ("cat a 2>/dev/null | sort -u", "/work", vec!["/work/a"]),
        ("cd src && cat a", "/work", vec!["/work/src", "/work/src/a"]),
        ("timeout 5 cat a", "/work", vec!["/work/a"]),
        ("grep -r x src", "/work", vec!["/work/src"]),
        ("grep -Rn x src", "/work", vec!["/work/src and links"]),
        ("grep --dereference-recursive x", "/work", vec!["/work and links"]),
        ("diff -r a b", "/tmp/x", vec!["/tmp/x", "/tmp/x/a and links", "/tmp/x/b and links"]),
        ("find -L", "/work", vec!["/work and links"]),
        ("jq --slurpfile a b . c", "/work", vec!["/work/b", "/work/c"]),
        ("find . -newer a", "/work", vec!["/work/.", "/work/a"]),
    ] {
        assert_eq!(named(command, cwd), expected, "{command}");
    }
}

#[test]
fn what_its_sandbox_refused_is_asked_about() {
    let outcome = |command: &str, paths_refused| {
        let request =
            CommandRequest { command, cwd: "/work", paths_refused, ..CommandRequest::default() };
        Engine::shipped().decide(&request).outcome
    };
    for command in ["cat a", "echo a | tee /dev/null && ls src", "cd a && ls", "grep -R x"] {
        assert_eq!(outcome(command, true), Outcome::Ask, "{command}");
    }
    assert_eq!(outcome("cat a", false), Outcome::Allow);
    // Nothing of it can have been refused.
    assert_eq!(outcome("echo a", true), Outcome::Allow);
}

#[test]
fn more_files_than_are_looked_at_are_asked_about() {
    let outcome = |count: usize| {
        let command = format!("cat {}", vec!["a"; count].join(" "));
        shipped_decision(&command).outcome
    };
    assert_eq!(outcome(256), Outcome::Allow);
    assert_eq!(outcome(257), Outcome::Ask);
}
