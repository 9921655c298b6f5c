//! Commands that a hostile agent would try. None of them is understood, so no rule can allow them.
//! One line each: the file is the corpus, add to it.
#![allow(clippy::unwrap_used, missing_docs)]

use policy::{CommandRequest, Engine, Outcome};

const ALLOW_ALL: &str = "@id(\"all\") permit (principal, action, resource);";

fn decide(policy: &Engine, command: &str) -> Outcome {
    let request =
        CommandRequest { command, cwd: "/work", git_hardened: true, ..CommandRequest::default() };
    policy.decide(&request).outcome
}

/// The lines of a case file, with `\n` for a newline; `#` starts a comment line.
fn lines(text: &'static str) -> impl Iterator<Item = String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    lines.map(|line| line.replace("\\n", "\n"))
}

#[test]
fn no_attack_is_allowed_even_by_a_policy_that_allows_everything() {
    let engine = Engine::load(ALLOW_ALL).unwrap();
    let allowed: Vec<String> = lines(include_str!("cases/attacks.txt"))
        .filter(|command| decide(&engine, command) == Outcome::Allow)
        .collect();
    assert!(allowed.is_empty(), "{allowed:#?}");
}

#[test]
fn what_agents_do_all_day_is_allowed() {
    let asked: Vec<String> = lines(include_str!("cases/daily.txt"))
        .filter(|command| decide(&Engine::shipped(), command) != Outcome::Allow)
        .collect();
    assert!(asked.is_empty(), "{asked:#?}");
}
