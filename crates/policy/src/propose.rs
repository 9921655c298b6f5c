//! Rule proposals: what "always allow" after an approval would add. Only for what is understood, only
//! as wide as the command that was approved, never for wrappers and interpreters.

use std::fmt::Write;

use crate::catalogue::Catalogue;
use crate::cedar_text::{like_pattern, literal};
use crate::decision::Outcome;
use crate::facts::{self, Fact};
use crate::request::CommandRequest;

/// A rule that would have allowed a command.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Proposal {
    /// The ids of the rules.
    pub ids: Vec<String>,
    /// Cedar text to append to the policy: one rule for each command that needs one.
    pub text: String,
}

/// Proposes rules for a command, under ids that are not `taken` by the policy that they are for. Those
/// of its parts that only read are left to the shipped policy.
///
/// # Errors
/// Says why no rule is proposed.
pub fn propose_rule(request: &CommandRequest<'_>, taken: &[&str]) -> Result<Proposal, String> {
    let facts = facts::of(request);
    let mut proposal = Proposal { ids: Vec::new(), text: String::new() };
    let mut conditions_seen: Vec<String> = Vec::new();
    for fact in &facts {
        if let Some(why) = &fact.unclear {
            return Err(format!("a rule needs a command that is understood: {why}"));
        }
        if fact.interpreter {
            return Err(format!("`{}` runs what it is given; approve it each time", fact.program));
        }
        if needs_nobody(fact) {
            continue;
        }
        let conditions = conditions(fact);
        if !conditions_seen.contains(&conditions) {
            let used = |id: &String| taken.contains(&id.as_str()) || proposal.ids.contains(id);
            let id = numbered(&id(fact)).find(|id| !used(id)).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(
                proposal.text,
                "@id({})\npermit (principal, action == Action::\"AutoApprove\", resource)\nwhen {{\n  {conditions}\n}};",
                literal(&id)
            );
            proposal.ids.push(id);
            conditions_seen.push(conditions);
        }
    }
    match proposal.ids.is_empty() {
        true => Err("it only reads, which the shipped policy's rule `shipped-read-only` allows \
                     without any other: where that rule is missing, add it"
            .into()),
        false => Ok(proposal),
    }
}

fn needs_nobody(fact: &Fact) -> bool {
    fact.effects.iter().all(|effect| *effect == crate::Effect::Read)
}

/// `allow-cargo-test-workspace`
fn id(fact: &Fact) -> String {
    let long = fact.flags.iter().filter(|flag| flag.starts_with("--"));
    let words = [&fact.program, &fact.subcommand].into_iter().chain(long).chain(&fact.hosts);
    let words: Vec<String> = words
        .map(|word| word.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect())
        .map(|word: String| word.trim_matches('-').to_owned())
        .filter(|word| !word.is_empty())
        .collect();
    format!("{}-{}", Outcome::Allow.as_str(), words.join("-"))
}

/// `x`, `x-2`, `x-3`, …
fn numbered(id: &str) -> impl Iterator<Item = String> {
    let more = (2..).map({
        let id = id.to_owned();
        move |number: u64| format!("{id}-{number}")
    });
    std::iter::once(id.to_owned()).chain(more)
}

/// As wide as this: the program in this form, these flags, no other effects, no other hosts. A flag
/// that is left out widens a command as one that is added does: `cargo fmt --check` changes nothing.
/// Operands stay free where the grammar keeps them inside the workspace, except for removing.
fn conditions(fact: &Fact) -> String {
    let effects: Vec<String> = fact.effects.iter().map(|e| e.as_str().to_owned()).collect();
    let mut conditions = vec![format!("context.program == {}", literal(&fact.program))];
    if !fact.subcommand.is_empty() {
        conditions.push(format!("context.subcommand == {}", literal(&fact.subcommand)));
    }
    if let Some(words) = words_of_the_form(fact) {
        let begins = like_pattern(&format!("{words} "));
        let line = literal(&words);
        conditions.push(format!("(context.line == {line} || context.line like \"{begins}*\")"));
    }
    conditions.push(exactly(&fact.flags, "flags"));
    conditions.push(format!("{}.containsAll(context.effects)", set(&effects)));
    if !fact.hosts.is_empty() {
        conditions.push(format!("{}.containsAll(context.hosts)", set(&fact.hosts)));
        conditions.push(at_most(&fact.operands, "operands"));
    } else if fact.effects.contains(&crate::Effect::Write) && fact.subcommand.is_empty() {
        conditions.push(at_most(&fact.operands, "operands"));
    }
    conditions.join(" &&\n  ")
}

/// The words that name the form, where program and subcommand leave open which one it is: there is
/// only one subcommand in the vocabulary of policies, and `go mod tidy` has two.
fn words_of_the_form(fact: &Fact) -> Option<String> {
    let words = facts::plain_words(&fact.line)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let run = &Catalogue::get().read(&words).ok()?.form.run;
    let more = run.iter().skip(2).any(|word| !word.starts_with('-'));
    more.then(|| facts::canonical_line(run))
}

fn exactly(values: &[String], field: &str) -> String {
    match values.is_empty() {
        true => at_most(values, field),
        false => {
            format!("{} &&\n  context.{field}.containsAll({})", at_most(values, field), set(values))
        }
    }
}

fn at_most(values: &[String], field: &str) -> String {
    match values.is_empty() {
        // An empty set literal has no type; `isEmpty` says the same.
        true => format!("context.{field}.isEmpty()"),
        false => format!("{}.containsAll(context.{field})", set(values)),
    }
}

fn set(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| literal(value)).collect();
    format!("[{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;

    fn request(command: &str) -> CommandRequest<'_> {
        CommandRequest { command, cwd: "/work", ..CommandRequest::default() }
    }

    fn outcome(policy: &str, command: &str) -> Outcome {
        Engine::load(policy).unwrap().decide(&request(command)).outcome
    }

    #[test]
    fn a_proposed_rule_allows_the_command_and_little_else() {
        let proposal = propose_rule(&request("cargo test --workspace"), &[]).unwrap();
        assert_eq!(proposal.ids, ["allow-cargo-test-all-workspace"]);
        for (command, expected) in [
            ("cargo test --workspace", Outcome::Allow),
            ("cargo test --all my_test", Outcome::Allow),
            ("cargo test", Outcome::Ask),
            ("cargo test --workspace --release", Outcome::Ask),
            ("cargo build --workspace", Outcome::Ask),
            ("cargo test --workspace --config x", Outcome::Ask),
            ("cargo test --workspace; rm x", Outcome::Ask),
        ] {
            assert_eq!(outcome(&proposal.text, command), expected, "{command}");
        }
    }

    #[test]
    fn what_writes_is_bound_to_its_files_and_what_fetches_to_its_url() {
        let rm = propose_rule(&request("rm -rf build"), &[]).unwrap();
        assert_eq!(outcome(&rm.text, "rm -rf build"), Outcome::Allow);
        assert_eq!(outcome(&rm.text, "rm -rf src"), Outcome::Ask);
        let curl = propose_rule(&request("curl -s https://a.test/x"), &[]).unwrap();
        assert_eq!(outcome(&curl.text, "curl -s https://a.test/x"), Outcome::Allow);
        assert_eq!(outcome(&curl.text, "curl -s https://a.test/x?secret"), Outcome::Ask);
        assert_eq!(outcome(&curl.text, "curl -s https://b.test/x"), Outcome::Ask);
    }

    #[test]
    fn parts_that_only_read_need_no_rule() {
        let proposal = propose_rule(&request("ls && touch 'it\"s' | wc -l"), &[]).unwrap();
        assert_eq!(proposal.ids, ["allow-touch"]);
        let policy = format!("{}{}", crate::SHIPPED_POLICY, proposal.text);
        assert_eq!(outcome(&policy, "ls && touch 'it\"s' | wc -l"), Outcome::Allow);
    }

    #[test]
    fn nothing_is_proposed_for_what_runs_anything() {
        for command in [
            "python3 a.py",
            "node a.js",
            "make test",
            "timeout 5 cargo test",
            "sh -c ls",
            "ls > a",
            "unknown",
            "sudo ls",
            "env ls",
            "xargs ls",
            "npm run x",
            "npm test",
            "yarn test",
            "cmake --build build",
            "python3 -m json.tool a.json",
            "cargo run",
            "cat /etc/passwd",
            "ls",
        ] {
            assert!(propose_rule(&request(command), &[]).is_err(), "{command}");
        }
    }

    #[test]
    fn a_proposed_rule_keeps_to_the_form() {
        for (approved, other) in [
            ("python3 -m pytest", "python3 tests"),
            ("python3 -m pytest", "python3 -m json.tool"),
            ("cargo fmt --check", "cargo fmt"),
            ("npm ci --ignore-scripts", "npm ci"),
            ("git add -n src", "git add src"),
            ("go mod verify", "go mod tidy"),
            ("go mod verify -v", "go mod tidy -v"),
            ("touch -c a", "touch a"),
            ("kill -15 7", "kill 7"),
        ] {
            let text = propose_rule(&request(approved), &[]).unwrap().text;
            assert_eq!(outcome(&text, approved), Outcome::Allow, "{approved}\n{text}");
            assert_eq!(outcome(&text, other), Outcome::Ask, "{other}\n{text}");
        }
    }

    #[test]
    fn the_id_of_a_rule_is_new_to_its_policy() {
        let both = propose_rule(&request("rm a && rm b && rm a"), &["allow-rm"]).unwrap();
        assert_eq!(both.ids, ["allow-rm-2", "allow-rm-3"]);
        assert_eq!(outcome(&both.text, "rm a && rm b"), Outcome::Allow);
        assert_eq!(outcome(&both.text, "rm a b"), Outcome::Ask);
    }

    #[test]
    fn what_only_reads_is_told_what_would_allow_it() {
        let why = propose_rule(&request("ls"), &[]).unwrap_err();
        assert!(why.contains("`shipped-read-only`"), "{why}");
    }
}
