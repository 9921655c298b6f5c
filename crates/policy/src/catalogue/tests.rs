//! The catalogue tests itself: every file parses, every example does what it says.

use std::collections::BTreeSet;

use super::spec::File;
use super::{Catalogue, FILES};
use crate::facts::{self, Fact};
use crate::request::CommandRequest;

fn entries() -> Vec<(&'static str, super::spec::Entry)> {
    let parse = |(name, text): &(&'static str, &str)| {
        let file: File = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        file.form.into_iter().map(|entry| (*name, entry)).collect::<Vec<_>>()
    };
    FILES.iter().flat_map(parse).collect()
}

fn facts(command: &str) -> Vec<Fact> {
    facts::of(&CommandRequest {
        command,
        cwd: "/work",
        git_hardened: true,
        ..CommandRequest::default()
    })
}

#[test]
fn every_file_parses() {
    for (name, text) in FILES {
        Catalogue::default().add(text).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn no_file_hides_a_program_of_another() {
    let mut homes = std::collections::HashMap::new();
    for (name, text) in FILES {
        let mut one = Catalogue::default();
        one.add(text).unwrap();
        for program in one.programs.into_keys() {
            homes.entry(program).or_insert_with(BTreeSet::new).insert(*name);
        }
    }
    let shared: Vec<_> = homes.iter().filter(|(_, files)| files.len() > 1).collect();
    let total: BTreeSet<&String> = homes.keys().collect();
    assert_eq!(total.len(), Catalogue::get().len(), "{shared:?}");
}

#[test]
fn at_least_120_programs_are_known() {
    assert!(Catalogue::get().len() >= 120, "{}", Catalogue::get().len());
}

#[test]
fn every_example_of_a_match_is_understood() {
    let mut wrong = Vec::new();
    for (file, entry) in entries() {
        assert!(!entry.about.is_empty(), "{file}: {} says nothing about itself", entry.run);
        assert!(!entry.matches.is_empty(), "{file}: {} has no example", entry.run);
        for command in &entry.matches {
            let facts = facts(command);
            let effects: BTreeSet<_> = facts[0].effects.iter().collect();
            let expected: BTreeSet<_> = entry.effects.iter().collect();
            if !facts.iter().all(|fact| fact.understood) || effects != expected {
                wrong.push(format!("{file}: `{command}`: {:?}", facts[0].unclear));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_example_of_a_non_match_is_understood() {
    let mut wrong = Vec::new();
    for (file, entry) in entries() {
        for command in &entry.non_match {
            if facts(command).iter().all(|fact| fact.understood) {
                wrong.push(format!("{file}: `{command}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_entry_says_what_it_is_not() {
    let without: Vec<_> = entries()
        .into_iter()
        .filter(|(_, entry)| entry.non_match.is_empty())
        .map(|(file, entry)| format!("{file}: {}", entry.run))
        .collect();
    assert!(without.is_empty(), "{without:?}");
}

/// The examples of all entries, each with the form that it is.
fn examples() -> Vec<(String, Vec<String>)> {
    let matches = entries().into_iter().flat_map(|(_, entry)| entry.matches);
    let with_form = |command: String| {
        let words = facts::plain_words(&command)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = Catalogue::get().read(&words).ok()?.form.run.clone();
        Some((command, run))
    };
    matches.filter_map(with_form).collect()
}

#[test]
fn nothing_is_proposed_for_what_runs_what_it_is_given() {
    let given = entries().into_iter().filter(|(_, entry)| entry.interpreter);
    let commands: Vec<String> = given.flat_map(|(_, entry)| entry.matches).collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in &commands {
        let request = CommandRequest { command, cwd: "/work", ..CommandRequest::default() };
        assert!(crate::propose_rule(&request, &[]).is_err(), "{command}");
    }
}

/// Rules are proposed for all examples, put into policies, and asked about all examples: whatever a
/// rule admits is the form that it was proposed for.
#[test]
fn a_proposed_rule_admits_no_other_form() {
    let examples = examples();
    let request = |command| CommandRequest {
        command,
        cwd: "/work",
        git_hardened: true,
        ..CommandRequest::default()
    };
    let mut ids: Vec<String> = Vec::new();
    let mut rules = Vec::new();
    for (command, run) in &examples {
        let taken: Vec<&str> = ids.iter().map(String::as_str).collect();
        if let Ok(proposal) = crate::propose_rule(&request(command), &taken) {
            ids.extend(proposal.ids.iter().cloned());
            rules.push((proposal, run, facts(command)[0].effects.clone(), command));
        }
    }
    assert!(rules.len() > 100, "{}", rules.len());
    let mut wrong = Vec::new();
    for rules in rules.chunks(100) {
        let text: String = rules.iter().map(|(rule, ..)| rule.text.as_str()).collect();
        let engine = crate::Engine::load(&text).unwrap();
        let mut own = BTreeSet::new();
        for (command, run) in &examples {
            let decision = engine.decide(&request(command));
            if decision.outcome != crate::Outcome::Allow {
                continue;
            }
            for (rule, for_run, effects, for_command) in rules {
                if !rule.ids.iter().any(|id| decision.rules.contains(id)) {
                    continue;
                }
                if command == *for_command {
                    own.insert(command);
                }
                let more = decision.facts[0].effects.iter().any(|effect| !effects.contains(effect));
                if run != *for_run || more {
                    wrong.push(format!("`{for_command}` admits `{command}`"));
                }
            }
        }
        for (.., command) in rules {
            assert!(own.contains(command), "the rule for `{command}` does not admit it");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
