//! The known tricks and the harmless commands of `cases/policy.json`, each under the rules that it
//! names, written as a tenant would write them, in a strict and in a careless way.
#![allow(clippy::unwrap_used, missing_docs)]

use policy::{CommandRequest, Engine, Outcome};
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    bypass: Vec<Case>,
    benign: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    allow_rule: String,
    command: String,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("cases/policy.json")).unwrap()
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// `git log`: the program and its subcommand.
fn by_name(index: usize, rule: &str) -> String {
    let mut words = rule.split(' ');
    let program = words.next().unwrap_or_default();
    let rest = words.next().filter(|word| !word.starts_with('-'));
    let subcommand = rest.map_or(String::new(), |word| {
        format!(" && (context.subcommand == {0} || context.operands.contains({0}))", quoted(word))
    });
    let condition = format!("context.program == {}{subcommand}", quoted(program));
    permit(&format!("name-{index}"), &condition)
}

/// `git log`: everything that begins with this text.
fn by_text(index: usize, rule: &str) -> String {
    permit(&format!("text-{index}"), &format!("context.line like {}", quoted(&format!("{rule}*"))))
}

fn permit(id: &str, condition: &str) -> String {
    format!(
        "@id({}) permit (principal, action == Action::\"AutoApprove\", resource) when {{ {condition} }};\n",
        quoted(id)
    )
}

fn policy(case: &Case, rule: fn(usize, &str) -> String) -> String {
    case.allow_rule.split(',').enumerate().map(|(i, text)| rule(i, text.trim())).collect()
}

fn decide(engine: &Engine, command: &str) -> Outcome {
    let request =
        CommandRequest { command, cwd: "/work", git_hardened: true, ..CommandRequest::default() };
    engine.decide(&request).outcome
}

#[test]
fn no_trick_is_allowed_under_the_rules_that_it_names() {
    for case in cases().bypass {
        for rule in [by_name, by_text] {
            let engine = Engine::load(&policy(&case, rule)).unwrap();
            assert_ne!(
                decide(&engine, &case.command),
                Outcome::Allow,
                "{}: {}",
                case.id,
                case.command
            );
        }
    }
}

#[test]
fn no_trick_is_allowed_by_the_shipped_policy() {
    for case in cases().bypass {
        assert_ne!(decide(&Engine::shipped(), &case.command), Outcome::Allow, "{}", case.id);
    }
}

#[test]
fn no_trick_is_allowed_where_all_rules_are_in_force() {
    let rules: Vec<String> = cases().bypass.iter().map(|case| case.allow_rule.clone()).collect();
    let text: String = rules.iter().enumerate().map(|(i, rule)| by_name(i, rule)).collect();
    let engine = Engine::load(&text).unwrap();
    for case in cases().bypass {
        assert_ne!(decide(&engine, &case.command), Outcome::Allow, "{}: {}", case.id, case.command);
    }
}

#[test]
fn what_is_harmless_is_allowed_under_its_rule() {
    for case in cases().benign {
        let engine = Engine::load(&policy(&case, by_name)).unwrap();
        assert_eq!(decide(&engine, &case.command), Outcome::Allow, "{}: {}", case.id, case.command);
    }
}

#[test]
fn what_only_reads_is_allowed_without_a_rule() {
    for case in cases().benign {
        let expected = match case.allow_rule.starts_with("cargo") {
            true => Outcome::Ask,
            false => Outcome::Allow,
        };
        assert_eq!(
            decide(&Engine::shipped(), &case.command),
            expected,
            "{}: {}",
            case.id,
            case.command
        );
    }
}
