//! An entry of the catalogue, ready to match with: flags by name, operands as a small sequence.

use std::collections::HashMap;

use super::spec::{Entry, Style};
use crate::facts::Effect;
use crate::kinds::Kind;

/// One way in which a program may be run.
#[derive(Debug)]
pub(crate) struct Form {
    /// Program, then subcommands.
    pub(crate) run: Vec<String>,
    pub(crate) about: String,
    pub(crate) effects: Vec<Effect>,
    pub(super) style: Style,
    pub(super) flags: Flags,
    pub(super) operands: Operands,
    pub(super) operands_with: Vec<(String, Operands)>,
    pub(super) requires: Vec<Vec<String>>,
    pub(super) follows: Vec<String>,
    pub(super) dash_number: bool,
    pub(super) flag_first: bool,
    pub(super) dashes_negate: bool,
    pub(crate) hardened_only: bool,
    pub(crate) interpreter: bool,
}

/// Flags by each of their names.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    list: Vec<Flag>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) names: Vec<String>,
    pub(crate) takes: Takes,
}

#[derive(Debug)]
pub(crate) enum Takes {
    Nothing,
    Values(Vec<Kind>),
    /// Only attached: `--color=always`.
    Optional(Kind),
}

impl Flags {
    pub(super) fn parse(lines: &[String]) -> Result<Self, String> {
        let mut flags = Self::default();
        for line in lines {
            let flag = Flag::parse(line).map_err(|why| format!("flag `{line}`: {why}"))?;
            for name in &flag.names {
                if flags.by_name.insert(name.clone(), flags.list.len()).is_some() {
                    return Err(format!("flag `{name}` stands twice"));
                }
            }
            flags.list.push(flag);
        }
        Ok(flags)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn find(&self, name: &str) -> Option<&Flag> {
        self.by_name.get(name).and_then(|index| self.list.get(*index))
    }
}

impl Flag {
    /// `-n --lines NUMBER`, `--color[=WHEN]`, `--arg NAME TEXT`.
    fn parse(line: &str) -> Result<Self, String> {
        let mut names = Vec::new();
        let mut takes = Takes::Nothing;
        for token in line.split(' ') {
            if let Some((name, kind)) = token.strip_suffix(']').and_then(|t| t.split_once("[=")) {
                names.push(name.to_owned());
                takes = Takes::Optional(Kind::parse(kind)?);
            } else if token.starts_with('-') {
                names.push(token.to_owned());
            } else {
                let kind = Kind::parse(token)?;
                match &mut takes {
                    Takes::Values(kinds) => kinds.push(kind),
                    Takes::Nothing => takes = Takes::Values(vec![kind]),
                    Takes::Optional(_) => return Err("has an optional and a needed value".into()),
                }
            }
        }
        if names.is_empty() { Err("has no name".into()) } else { Ok(Self { names, takes }) }
    }
}

/// What stands behind the flags.
#[derive(Debug, Default)]
pub(crate) struct Operands {
    items: Vec<(Kind, Count)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    One,
    Optional,
    Any,
    Some,
}

impl Operands {
    /// `PATTERN [PATH]...`
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut items = Vec::new();
        for token in text.split(' ').filter(|token| !token.is_empty()) {
            let (token, repeats) = match token.strip_suffix("...") {
                Some(token) => (token, true),
                None => (token, false),
            };
            let (name, optional) = match token.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
                Some(name) => (name, true),
                None => (token, false),
            };
            let count = match (optional, repeats) {
                (false, false) => Count::One,
                (true, false) => Count::Optional,
                (true, true) => Count::Any,
                (false, true) => Count::Some,
            };
            items.push((Kind::parse(name)?, count));
        }
        let repeated = items.iter().filter(|(_, c)| matches!(c, Count::Any | Count::Some)).count();
        if repeated > 1 { Err("more than one operand repeats".into()) } else { Ok(Self { items }) }
    }

    /// The kind of each of `count` operands, if that many may be given.
    pub(super) fn kinds(&self, count: usize) -> Option<Vec<&Kind>> {
        let needed =
            self.items.iter().filter(|(_, c)| matches!(c, Count::One | Count::Some)).count();
        let spare = count.checked_sub(needed)?;
        let optional = self.items.iter().filter(|(_, c)| *c == Count::Optional).count();
        // What the optional operands do not take goes to the one that repeats.
        let repeated = spare.saturating_sub(optional);
        let mut left = spare - repeated;
        let mut kinds = Vec::with_capacity(count);
        for (kind, each) in &self.items {
            let times = match each {
                Count::One => 1,
                Count::Optional => left.min(1),
                Count::Any => repeated,
                Count::Some => 1 + repeated,
            };
            if *each == Count::Optional {
                left -= times;
            }
            kinds.extend(std::iter::repeat_n(kind, times));
        }
        (kinds.len() == count).then_some(kinds)
    }

    pub(super) fn wraps_a_command(&self) -> bool {
        self.items.iter().any(|(kind, _)| *kind == Kind::Command)
    }
}

impl Form {
    /// The forms that an entry stands for: one for each way to read its `|`.
    pub(super) fn from_entry(entry: &Entry) -> Result<Vec<Self>, String> {
        let mut runs: Vec<Vec<String>> = vec![Vec::new()];
        for word in entry.run.split(' ') {
            let longer =
                |run: &Vec<String>, choice: &str| [run.as_slice(), &[choice.into()]].concat();
            runs = runs
                .iter()
                .flat_map(|run| word.split('|').map(move |choice| longer(run, choice)))
                .collect();
        }
        runs.into_iter().map(|run| Self::of(run, entry)).collect()
    }

    /// The subcommand, for programs that have them.
    pub(crate) fn subcommand(&self) -> &str {
        self.run
            .get(1)
            .map(String::as_str)
            .filter(|word| !word.starts_with('-'))
            .unwrap_or_default()
    }

    fn of(run: Vec<String>, entry: &Entry) -> Result<Self, String> {
        let mut operands_with = Vec::new();
        for with in &entry.operands_with {
            operands_with.push((with.flag.clone(), Operands::parse(&with.operands)?));
        }
        let flags = Flags::parse(&entry.flags)?;
        if let Some(flag) = entry.follows.iter().find(|flag| flags.find(flag).is_none()) {
            return Err(format!("`{flag}` follows links, and is no flag of it"));
        }
        Ok(Self {
            run,
            about: entry.about.clone(),
            effects: entry.effects.clone(),
            style: entry.style,
            flags,
            operands: Operands::parse(&entry.operands)?,
            operands_with,
            requires: entry.requires.clone(),
            follows: entry.follows.clone(),
            dash_number: entry.dash_number,
            flag_first: entry.flag_first,
            dashes_negate: entry.dashes_negate,
            hardened_only: entry.hardened_only,
            interpreter: entry.interpreter,
        })
    }
}
