//! Reads the commands of a plain script by the catalogue, follows `cd`, and sees through wrappers.

use super::plain::{Joiner, MAX_COMMANDS, Simple};
use super::{Effect, Fact, all_effects, canonical_line, is_plain_cwd};
use crate::catalogue::{Catalogue, Reading};
use crate::request::CommandRequest;
use crate::unclear::{Clear, Unclear, refuse};

/// How many files and folders a script may name.
const MAX_PATHS: usize = 256;
/// How many wrappers may stand before a command.
const MAX_WRAPPERS: usize = 4;

/// Builtins that change the shell itself. Behind a wrapper they do something else, or nothing.
const CHANGE_THE_SHELL: &[&str] = &["cd", "set", "exit"];

const OTHER_SHELL: &str = "a command before it may have changed the shell";

/// Every command that the script runs, wrappers followed by what they run.
pub(super) fn facts(commands: &[Simple], request: &CommandRequest<'_>) -> Clear<Vec<Fact>> {
    let mut facts = Vec::new();
    let mut place =
        Place { cwd: request.cwd.to_owned(), moved: false, known: true, same_shell: true };
    for (index, command) in commands.iter().enumerate() {
        let argv: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
        let first = facts.len();
        unwrap(&argv, &place.cwd, request.git_hardened, &mut facts);
        let ran = &mut facts[first..];
        if !place.same_shell {
            ran.iter_mut().for_each(|fact| fact.doubt(OTHER_SHELL));
        } else if let Some(why) = place.doubt(command.joiner) {
            ran.iter_mut().filter(|fact| !is_same_anywhere(fact)).for_each(|fact| fact.doubt(why));
        }
        let piped = command.joiner == Joiner::Pipe
            || commands.get(index + 1).is_some_and(|next| next.joiner == Joiner::Pipe);
        // In a pipeline it runs in a shell of its own and changes nothing for the next one.
        if !piped {
            place.follow(command.joiner, &facts[first..]);
        }
    }
    keep_git_apart(&mut facts);
    keep_few_paths(&mut facts);
    // Each is judged by every rule, wrapped ones included.
    match facts.len() > MAX_COMMANDS {
        true => refuse("it runs more than 20 commands, with those behind wrappers"),
        false => Ok(facts),
    }
}

/// Whether where it runs makes no difference: it does nothing but print what it is given.
fn is_same_anywhere(fact: &Fact) -> bool {
    let idle = fact.effects.is_empty() && fact.paths.is_empty();
    idle && fact.understood && !CHANGE_THE_SHELL.contains(&fact.program.as_str())
}

/// Git is disarmed for a whole script, by variables, and repositories are looked at when it starts.
/// What of git does more than read would then run without its hooks and its user's settings, and what
/// writes could bring another repository: git is not disarmed in such a script.
fn keep_git_apart(facts: &mut [Fact]) {
    let is_git = |fact: &Fact| fact.program.rsplit('/').next() == Some("git");
    let reads = |fact: &Fact| fact.understood && fact.effects == [Effect::Read];
    let more = facts.iter().any(|fact| is_git(fact) && !fact.hardened && !reads(fact));
    // What executes could run by itself whatever it made git run.
    let only_writes = |fact: &Fact| {
        fact.effects.contains(&Effect::Write) && !fact.effects.contains(&Effect::Execute)
    };
    let writes = facts.iter().any(only_writes);
    let waits = facts.iter().position(|fact| fact.program == "sleep").unwrap_or(facts.len());
    for (index, fact) in facts.iter_mut().enumerate().filter(|(_, fact)| fact.hardened) {
        if more {
            fact.doubt("git does more than read in the same script");
        } else if writes || index > waits {
            fact.doubt("the repository can change after the script has started");
        }
    }
}

/// Each path is looked at before the script starts, up to a number.
fn keep_few_paths(facts: &mut [Fact]) {
    if facts.iter().flat_map(Fact::named_paths).count() > MAX_PATHS {
        facts.iter_mut().for_each(|fact| fact.doubt("it names more files than are looked at"));
    }
}

/// Where the next command runs, and in what kind of shell.
struct Place {
    cwd: String,
    moved: bool,
    /// Whether it is certain that every `cd` before it was run.
    known: bool,
    same_shell: bool,
}

impl Place {
    /// Why the next command may run elsewhere than it seems.
    fn doubt(&self, joiner: Joiner) -> Option<&'static str> {
        if !self.known {
            return Some("where it runs depends on whether a command before a `cd` failed");
        }
        if self.moved && !matches!(joiner, Joiner::And | Joiner::Pipe) {
            return Some("where it runs depends on whether a `cd` before it succeeded");
        }
        (!is_plain_cwd(&self.cwd)).then_some("it runs in a folder outside of the workspace")
    }

    /// `source` and its like are allowed by `@exact` at most, and what follows them is then another
    /// matter. A program that is run by its path is no builtin: it cannot change the shell.
    fn follow(&mut self, joiner: Joiner, ran: &[Fact]) {
        self.same_shell &= ran.iter().all(|fact| fact.understood || fact.program.contains('/'));
        let Some(cd) = ran.first().filter(|fact| fact.program == "cd") else { return };
        self.moved = true;
        self.known &= joiner != Joiner::Or;
        if let Some(target) = cd.operands.first() {
            self.cwd = absolute(target, &self.cwd);
        }
    }
}

/// Reads one command, then what it runs if it is a wrapper.
fn unwrap(argv: &[&str], cwd: &str, git_hardened: bool, facts: &mut Vec<Fact>) {
    let mut argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    for depth in 0..=MAX_WRAPPERS {
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        let mut fact;
        let mut inner = None;
        match Catalogue::get().read(&words) {
            Ok(reading) => {
                fact = known(&words, cwd, &reading);
                if reading.form.hardened_only && !git_hardened {
                    fact.doubt("the repository's configuration can make it run other programs");
                }
                inner = reading.inner;
            }
            Err(why) => fact = unknown(&words, cwd, &why),
        }
        fact.wrapped = depth > 0;
        if depth > 0 && CHANGE_THE_SHELL.contains(&fact.program.as_str()) {
            fact.doubt("it changes the shell, and stands behind a wrapper");
        }
        if depth == MAX_WRAPPERS && inner.is_some() {
            fact.doubt("too many wrappers stand before the command");
            inner = None;
        }
        facts.push(fact);
        match inner {
            Some(inner) => argv = inner,
            None => return,
        }
    }
}

fn known(argv: &[&str], cwd: &str, reading: &Reading) -> Fact {
    let form = reading.form;
    Fact {
        program: form.run[0].clone(),
        subcommand: form.subcommand().to_owned(),
        line: canonical_line(argv),
        flags: reading.flags.clone(),
        operands: reading.operands.clone(),
        paths: reading.paths.iter().map(|path| absolute(path, cwd)).collect(),
        follows_links: reading.follows_links,
        hosts: reading.hosts.clone(),
        effects: form.effects.clone(),
        understood: true,
        unclear: None,
        cwd: cwd.into(),
        wrapped: false,
        hardened: form.hardened_only,
        interpreter: form.interpreter,
    }
}

fn absolute(path: &str, cwd: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", cwd.trim_end_matches('/')),
    }
}

/// What can be said without a grammar. It serves policies that forbid; nothing is allowed by it.
fn unknown(argv: &[&str], cwd: &str, why: &Unclear) -> Fact {
    let (program, rest) = argv.split_first().unwrap_or((&"", &[]));
    let (flags, operands): (Vec<&str>, Vec<&str>) =
        rest.iter().partition(|word| word.starts_with('-') && word.len() > 1);
    let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let subcommand = match Catalogue::get().has_subcommands(program) {
        true => operands.first().copied().unwrap_or_default().to_owned(),
        false => String::new(),
    };
    Fact {
        program: (*program).to_owned(),
        subcommand,
        line: canonical_line(argv),
        flags: owned(flags),
        operands: owned(operands),
        paths: Vec::new(),
        follows_links: false,
        hosts: Vec::new(),
        effects: all_effects(),
        understood: false,
        unclear: Some(why.to_string()),
        cwd: cwd.into(),
        wrapped: false,
        hardened: false,
        interpreter: false,
    }
}
