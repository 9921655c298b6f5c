//! The file format of the catalogue: how an entry is written down. `form` makes it usable.

use serde::Deserialize;

use crate::facts::Effect;

/// One file of `catalogue/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Options that stand before a subcommand.
    #[serde(default)]
    pub(super) globals: Vec<Globals>,
    pub(super) form: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Globals {
    pub(super) program: String,
    pub(super) flags: Vec<String>,
}

/// One way in which a program may be run. A program with several ways has several entries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Program and subcommands, such as `git remote show`; `|` separates programs of one grammar.
    pub(super) run: String,
    /// What it is for, and why its grammar ends where it ends.
    pub(super) about: String,
    pub(super) effects: Vec<Effect>,
    #[serde(default)]
    pub(super) style: Style,
    /// As in a manual: `-n --lines NUMBER`, `--color[=WHEN]`, `-q --quiet`.
    #[serde(default)]
    pub(super) flags: Vec<String>,
    /// As in a manual: `PATTERN [PATH]...`.
    #[serde(default)]
    pub(super) operands: String,
    /// Other operands when a flag is given: `grep -e` needs no pattern operand.
    #[serde(default)]
    pub(super) operands_with: Vec<OperandsWith>,
    /// At least one flag of each list must be given: `tar` must be told to list.
    #[serde(default)]
    pub(super) requires: Vec<Vec<String>>,
    /// Whether `-5` is a number.
    #[serde(default)]
    pub(super) dash_number: bool,
    /// Flags with which links are followed that stand beneath what it names.
    #[serde(default)]
    pub(super) follows: Vec<String>,
    /// Whether there must be a flag in front: a first word without a dash is read as flags (tar).
    #[serde(default)]
    pub(super) flag_first: bool,
    /// Whether a `--` takes a flag back instead of ending the flags (unzip).
    #[serde(default)]
    pub(super) dashes_negate: bool,
    /// Understood only where the platform has disarmed the repository's configuration.
    #[serde(default)]
    pub(super) hardened_only: bool,
    /// Runs what it is given: no rule is ever proposed for it.
    #[serde(default)]
    pub(super) interpreter: bool,
    /// Commands that this entry must understand; the tests read it.
    #[serde(default, rename = "match")]
    #[cfg_attr(not(test), expect(dead_code, reason = "only the tests read the examples"))]
    pub(super) matches: Vec<String>,
    /// Commands of the same program that must not be understood; the tests read it.
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "only the tests read the examples"))]
    pub(super) non_match: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperandsWith {
    pub(super) flag: String,
    pub(super) operands: String,
}

/// How a program reads its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Style {
    /// As getopt_long: options anywhere, short ones in clusters, `--long=value`.
    #[default]
    Gnu,
    /// As Gnu, but a value of its own never looks like a flag, and `-x=value`, which means different
    /// things to different parsers, is refused.
    Strict,
    /// As Strict, but short flags do not cluster: who reads one letter need not know the next (git log).
    Single,
    /// As Strict, but short flags have their values in the next argument, never attached (tree).
    Apart,
    /// Options end at the first operand.
    Posix,
    /// One dash before long names, options end at the first operand (Go's flag package).
    SingleDash,
    /// Each flag is a whole argument, and so is each value (xmllint).
    Words,
    /// The same, but options end at the first operand (xxd, kill).
    LeadingWords,
    /// Paths, then an expression (find).
    Expression,
    /// Every argument is an operand (echo, expr).
    Raw,
}

impl Style {
    /// Whether options end at the first operand.
    pub(super) fn ends_at_operand(self) -> bool {
        matches!(self, Self::Posix | Self::SingleDash | Self::LeadingWords)
    }

    /// Whether `--` ends the options.
    pub(super) fn ends_at_dashes(self) -> bool {
        !matches!(self, Self::Expression | Self::Words)
    }

    /// Whether `--name=value` is one argument.
    pub(super) fn attaches(self) -> bool {
        !matches!(self, Self::Expression | Self::Words | Self::LeadingWords)
    }

    /// Whether the argument behind a flag is its value whatever it looks like.
    pub(super) fn takes_any_value(self) -> bool {
        matches!(self, Self::Gnu | Self::Posix | Self::LeadingWords | Self::Expression)
    }
}
