//! Conformance with what Codex 0.169.0 decided about the same rules and commands.

use serde::Deserialize;

use super::import_codex_rules;
use crate::facts::canonical_line;
use crate::{CommandRequest, Engine, Outcome};

#[derive(Deserialize)]
struct Conformance {
    rules: String,
    cases: Vec<Case>,
    syntax_cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    name: String,
    #[serde(default)]
    rules: String,
    command: Vec<String>,
    extra_flags: Vec<String>,
    exit_code: i32,
    output: Option<Output>,
}

#[derive(Deserialize)]
struct Output {
    decision: Option<String>,
}

fn conformance() -> Conformance {
    serde_json::from_str(include_str!("../../tests/cases/codex/execpolicy-cases.json")).unwrap()
}

fn decide(engine: &Engine, command: &str) -> Outcome {
    let request =
        CommandRequest { command, cwd: "/work", git_hardened: true, ..CommandRequest::default() };
    engine.decide(&request).outcome
}

/// What Codex's decision may become here: allowed only what is understood, nothing looser.
fn fits(codex: Option<&str>, ours: Outcome, resolved: bool) -> bool {
    match codex {
        Some("allow") => ours != Outcome::Deny,
        // By its path a program is nothing that a rule names: it asks.
        Some("forbidden") => ours == Outcome::Deny || resolved && ours == Outcome::Ask,
        _ => ours == Outcome::Ask,
    }
}

#[test]
fn decisions_are_those_of_codex_or_stricter() {
    let conformance = conformance();
    let import = import_codex_rules(&conformance.rules).unwrap();
    let engine = Engine::load(&import.policy).unwrap();
    for case in conformance.cases {
        let codex = case.output.and_then(|output| output.decision);
        let ours = decide(&engine, &canonical_line(&case.command));
        let resolved = !case.extra_flags.is_empty();
        assert!(fits(codex.as_deref(), ours, resolved), "{:?}: {codex:?} {ours:?}", case.command);
    }
}

#[test]
fn files_that_codex_refuses_are_refused() {
    for case in conformance().syntax_cases {
        let refused = import_codex_rules(&case.rules).is_err();
        // What Codex refuses is refused; what it loads may hold more than the subset.
        assert!(refused || case.exit_code == 0, "{}: {}", case.name, case.rules);
        if let Ok(import) = import_codex_rules(&case.rules) {
            Engine::load(&import.policy).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        }
    }
}

#[test]
fn the_example_file_is_carried_over_with_a_report() {
    let import = import_codex_rules(include_str!("../../tests/cases/codex/ep.rules")).unwrap();
    let engine = Engine::load(&import.policy).unwrap();
    assert!(import.report.iter().any(|remark| remark.message.contains("host_executable")));
    for (command, expected) in [
        ("git status", Outcome::Allow),
        ("git push origin main", Outcome::Ask),
        ("git push --force", Outcome::Deny),
        ("git status && git push --force", Outcome::Deny),
        ("ls -la", Outcome::Allow),
        ("ls / ", Outcome::Ask),
        ("rm -rf / x", Outcome::Deny),
        ("python -c 1", Outcome::Deny),
        ("curl -s https://packages.example/x", Outcome::Ask),
        ("curl -s https://evil.example/x", Outcome::Deny),
        // Codex lets these escape; here a human sees them.
        ("git status > out.txt; git push --force", Outcome::Ask),
        ("echo $(git push --force)", Outcome::Ask),
        ("X=1 git push --force", Outcome::Ask),
        ("(git push --force)", Outcome::Ask),
        ("bash -c 'git push --force'", Outcome::Ask),
        ("sudo rm -rf /", Outcome::Ask),
    ] {
        assert_eq!(decide(&engine, command), expected, "{command}");
    }
}

#[test]
fn a_host_is_allowed_for_its_protocol_only() {
    let rules = "network_rule(host=\"a.test\", protocol=\"https\", decision=\"allow\")";
    let engine = Engine::load(&import_codex_rules(rules).unwrap().policy).unwrap();
    assert_eq!(decide(&engine, "curl -s https://a.test/x"), Outcome::Allow);
    for command in [
        "curl -s http://a.test/x",
        "curl -s https://b.test/https://a.test",
        "curl -s https://a.test.evil.test/",
        "ls",
    ] {
        assert_eq!(decide(&engine, command), Outcome::Ask, "{command}");
    }
}

#[test]
fn a_prefix_is_made_of_whole_words() {
    let rules =
        "prefix_rule(pattern=[\"echo\", \"a b\"])\nprefix_rule(pattern=[\"printf\", \"*\"])";
    let engine = Engine::load(&import_codex_rules(rules).unwrap().policy).unwrap();
    for (command, expected) in [
        ("echo 'a b' c", Outcome::Allow),
        ("echo 'a b'", Outcome::Allow),
        ("echo a b", Outcome::Ask),
        ("echo 'a bc'", Outcome::Ask),
        ("echo \"a b'c\"", Outcome::Ask),
        ("printf '*' x", Outcome::Allow),
        ("printf x", Outcome::Ask),
    ] {
        assert_eq!(decide(&engine, command), expected, "{command}");
    }
}
