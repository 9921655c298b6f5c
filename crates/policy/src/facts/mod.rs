//! From shell text to facts: which commands a script runs, and what each of them may do.
//!
//! Nothing here decides. What is not understood says why, and has every effect.

mod effects;
mod gate;
mod opinions;
mod parse;
mod plain;
mod quote;
mod walk;

use serde::{Deserialize, Serialize};

pub use effects::Effect;
pub(crate) use gate::is_plain_cwd;
pub use parse::{Parse, ParsedCommand};
pub(crate) use quote::line as canonical_line;

use crate::request::CommandRequest;
use crate::unclear::{Clear, Unclear};

/// What was understood of one command that a script runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fact {
    /// Program name as written; empty when the script is opaque.
    pub program: String,
    /// The subcommand, for programs that have them.
    #[serde(default)]
    pub subcommand: String,
    /// Canonical quoting of its arguments; the whole text when the script is opaque.
    pub line: String,
    /// Every name of every flag that is given.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Its operands, unquoted.
    #[serde(default)]
    pub operands: Vec<String>,
    /// Files and folders that it names, absolute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Whether it follows links that it finds beneath them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows_links: bool,
    /// Other machines that it names, with the port where one is given.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Everything that it may do.
    #[serde(default = "all_effects")]
    pub effects: Vec<Effect>,
    /// Whether every part of it was understood.
    pub understood: bool,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclear: Option<String>,
    /// Where it runs.
    #[serde(default)]
    pub cwd: String,
    /// Whether the command before this one in the list runs it, as `timeout` does.
    #[serde(default)]
    pub wrapped: bool,
    /// Whether it is understood only because repository configuration is disarmed.
    #[serde(default)]
    pub hardened: bool,
    /// Whether it runs what it is given, so that no rule is proposed for it.
    #[serde(default)]
    pub interpreter: bool,
}

const REFUSED: &str = "its sandbox refused to start it: what it names is not what it seems";

/// A file or folder that a command names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPath<'a> {
    /// Absolute, as it is named.
    pub path: &'a str,
    /// Whether links are followed that stand beneath it.
    pub follows_links: bool,
}

fn all_effects() -> Vec<Effect> {
    Effect::ALL.to_vec()
}

impl Fact {
    /// A command of which nothing is known but its text.
    pub(crate) fn opaque(text: &str, cwd: &str, why: &Unclear) -> Self {
        Self {
            program: String::new(),
            subcommand: String::new(),
            line: text.into(),
            flags: Vec::new(),
            operands: Vec::new(),
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

    /// What has to be looked at in the sandbox before it may run: every path that it names, and where
    /// it runs. That is what it follows links beneath if it names nothing.
    pub(crate) fn named_paths(&self) -> impl Iterator<Item = NamedPath<'_>> {
        let follows_links = self.follows_links;
        let from_here = follows_links && self.paths.is_empty();
        let begins = matches!(self.cwd.trim_end_matches('/'), "/work" | "/tmp");
        let cwd = (from_here || !begins)
            .then_some(NamedPath { path: &self.cwd, follows_links: from_here });
        self.paths.iter().map(move |path| NamedPath { path, follows_links }).chain(cwd)
    }

    /// Takes back that it was understood.
    pub(crate) fn doubt(&mut self, why: &str) {
        self.understood = false;
        self.effects = all_effects();
        self.unclear.get_or_insert_with(|| why.to_owned());
    }
}

/// The commands that a script runs, in order. Never empty.
pub(crate) fn of(request: &CommandRequest<'_>) -> Vec<Fact> {
    let mut facts =
        match split(request.command).and_then(|commands| walk::facts(&commands, request)) {
            Ok(facts) => facts,
            Err(why) => vec![Fact::opaque(request.command, request.cwd, &why)],
        };
    if request.paths_refused {
        let names = |fact: &&mut Fact| fact.named_paths().next().is_some();
        facts.iter_mut().filter(names).for_each(|fact| fact.doubt(REFUSED));
    }
    let doubt = if request.has_env {
        "it sets environment variables, which can change what programs do"
    } else if !is_plain_cwd(request.cwd) {
        "its working directory is not a plain path below /work or /tmp"
    } else {
        return facts;
    };
    facts.iter_mut().for_each(|fact| fact.doubt(doubt));
    facts
}

/// The words of a text that is one plain command.
pub(crate) fn plain_words(text: &str) -> Option<Vec<String>> {
    let commands = split(text).ok()?;
    match commands.as_slice() {
        [command] => Some(command.words.iter().map(|word| word.text.clone()).collect()),
        _ => None,
    }
}

fn split(text: &str) -> Clear<Vec<plain::Simple>> {
    gate::check(text)?;
    let commands = plain::split(text)?;
    opinions::agree(text, &commands)?;
    Ok(commands)
}

#[cfg(test)]
mod tests;
