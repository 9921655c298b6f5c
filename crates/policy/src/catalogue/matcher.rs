//! Reads an argument vector by one form of the catalogue: a positive list, argument by argument.

use super::form::{Flag, Flags, Form, Operands, Takes};
use super::spec::Style;
use crate::kinds::{Kind, Note};
use crate::unclear::{Clear, refuse};

/// An argument vector as its program's grammar reads it.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) form: &'static Form,
    /// Every name of every flag that is given.
    pub(crate) flags: Vec<String>,
    pub(crate) operands: Vec<String>,
    /// Files and folders that are named, as they are written.
    pub(crate) paths: Vec<String>,
    /// Whether links are followed that stand beneath them.
    pub(crate) follows_links: bool,
    /// Other machines that are named.
    pub(crate) hosts: Vec<String>,
    /// The command that it runs, if it is a wrapper.
    pub(crate) inner: Option<Vec<String>>,
}

/// Takes the flags that stand before a subcommand.
pub(super) fn leading_flags<'a, 'b>(
    globals: &Flags,
    mut rest: &'b [&'a str],
) -> (Vec<String>, &'b [&'a str]) {
    let mut seen = Vec::new();
    while let Some((first, tail)) = rest.split_first() {
        match globals.find(first) {
            Some(Flag { names, takes: Takes::Nothing }) => seen.extend(names.iter().cloned()),
            _ => break,
        }
        rest = tail;
    }
    (seen, rest)
}

/// Reads the arguments behind the program and its subcommands.
pub(super) fn read(form: &'static Form, globals: Vec<String>, args: &[&str]) -> Clear<Reading> {
    let mut reader = Reader {
        form,
        flags: globals,
        operands: Vec::new(),
        paths: Vec::new(),
        hosts: Vec::new(),
        ended: form.style == Style::Raw,
        begins_with_dashes: false,
        expression: false,
    };
    let is_flag = |arg: &&str| arg.starts_with('-') && arg.len() > 1;
    if form.flag_first && !args.first().is_some_and(is_flag) {
        let name = reader.name();
        return refuse(format!("the first word behind `{name}` is no flag, but is read as flags"));
    }
    let mut rest = args;
    while let Some((arg, tail)) = rest.split_first() {
        rest = reader.argument(arg, tail)?;
    }
    reader.finish()
}

struct Reader<'a> {
    form: &'static Form,
    flags: Vec<String>,
    operands: Vec<&'a str>,
    paths: Vec<String>,
    hosts: Vec<String>,
    /// Whether `--` or the style has ended the options.
    ended: bool,
    /// Whether no flag came before the `--`: none can have taken it for its value.
    begins_with_dashes: bool,
    /// Whether find's expression has begun.
    expression: bool,
}

impl<'a> Reader<'a> {
    /// Reads one argument, and the values behind it; gives back what is left.
    fn argument<'b>(&mut self, arg: &'a str, tail: &'b [&'a str]) -> Clear<&'b [&'a str]> {
        if self.ended || arg == "-" || !arg.starts_with('-') {
            return self.operand(arg).map(|()| tail);
        }
        if arg == "--" && self.form.style.ends_at_dashes() && !self.form.dashes_negate {
            self.ended = true;
            self.begins_with_dashes = self.flags.is_empty();
            return Ok(tail);
        }
        if self.form.dash_number && arg[1..].bytes().all(|byte| byte.is_ascii_digit()) {
            self.flags.push("-NUMBER".into());
            return Ok(tail);
        }
        match self.form.style {
            Style::SingleDash => self.long(&format!("-{}", arg.trim_start_matches('-')), tail),
            Style::Expression => {
                self.expression = true;
                self.long(arg, tail)
            }
            Style::Words | Style::LeadingWords => self.long(arg, tail),
            _ if arg.starts_with("--") => self.long(arg, tail),
            _ => self.cluster(arg, tail),
        }
    }

    fn operand(&mut self, arg: &'a str) -> Clear<()> {
        let operator = matches!(arg, "(" | ")" | "!" | ",");
        if self.form.style == Style::Expression && (operator || self.expression) {
            self.expression = true;
            return match operator {
                true => Ok(()),
                false => self.refuse_operand(arg),
            };
        }
        self.ended |= self.form.style.ends_at_operand();
        self.operands.push(arg);
        Ok(())
    }

    fn long<'b>(&mut self, arg: &str, tail: &'b [&'a str]) -> Clear<&'b [&'a str]> {
        let (name, attached) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg, None),
        };
        let Some(flag) = self.form.flags.find(name) else {
            return self.refuse_flag(name);
        };
        self.flags.extend(flag.names.iter().cloned());
        match (&flag.takes, attached) {
            (Takes::Nothing, None) | (Takes::Optional(_), None) => Ok(tail),
            (Takes::Nothing, Some(_)) => self.refuse_flag(arg),
            (_, Some(_)) if !self.form.style.attaches() => self.refuse_flag(arg),
            (Takes::Optional(kind), Some(value)) => self.value(name, kind, value).map(|()| tail),
            (Takes::Values(kinds), Some(value)) => match kinds.as_slice() {
                [kind] => self.value(name, kind, value).map(|()| tail),
                _ => self.refuse_flag(arg),
            },
            (Takes::Values(kinds), None) => self.values(name, kinds, tail),
        }
    }

    /// `-la`, `-n5`, `-n 5`.
    fn cluster<'b>(&mut self, arg: &str, tail: &'b [&'a str]) -> Clear<&'b [&'a str]> {
        let style = self.form.style;
        for (at, letter) in arg.char_indices().skip(1) {
            let name = format!("-{letter}");
            let Some(flag) = self.form.flags.find(&name) else {
                return self.refuse_flag(&name);
            };
            self.flags.extend(flag.names.iter().cloned());
            let attached = &arg[at + letter.len_utf8()..];
            match &flag.takes {
                Takes::Nothing if style == Style::Single && !attached.is_empty() => {
                    return self.refuse_flag(arg);
                }
                Takes::Nothing => {}
                Takes::Optional(_) if attached.is_empty() => {}
                Takes::Values(kinds) if attached.is_empty() => {
                    return self.values(&name, kinds, tail);
                }
                _ if style == Style::Apart => return self.refuse_flag(arg),
                Takes::Optional(kind) => return self.value(&name, kind, attached).map(|()| tail),
                Takes::Values(kinds) => {
                    let ambiguous = style == Style::Strict && attached.starts_with('=');
                    return match kinds.as_slice() {
                        [kind] if !ambiguous => self.value(&name, kind, attached).map(|()| tail),
                        _ => self.refuse_flag(arg),
                    };
                }
            }
        }
        Ok(tail)
    }

    fn values<'b>(
        &mut self,
        name: &str,
        kinds: &[Kind],
        tail: &'b [&'a str],
    ) -> Clear<&'b [&'a str]> {
        if tail.len() < kinds.len() {
            return refuse(format!("`{} {name}` lacks a value", self.name()));
        }
        let (values, rest) = tail.split_at(kinds.len());
        let is_flag = |value: &str| value.starts_with('-') && value.len() > 1;
        for (kind, value) in kinds.iter().zip(values) {
            if is_flag(value) && !self.form.style.takes_any_value() {
                return refuse(format!(
                    "`{} {name}` is given `{value}`, which may be a flag",
                    self.name()
                ));
            }
            self.value(name, kind, value)?;
        }
        Ok(rest)
    }

    fn value(&mut self, flag: &str, kind: &Kind, value: &str) -> Clear<()> {
        match kind.check(value) {
            Ok(note) => {
                self.take_note(note, value);
                Ok(())
            }
            Err(why) => refuse(format!("`{} {flag}` is given `{value}`: {why}", self.name())),
        }
    }

    fn take_note(&mut self, note: Note, value: &str) {
        match note {
            Note::Host(host) => self.hosts.push(host),
            Note::Path => self.paths.push(value.to_owned()),
            Note::Nothing => {}
        }
    }

    fn finish(mut self) -> Clear<Reading> {
        let given = |name: &String| self.flags.contains(name);
        if !self.form.requires.iter().all(|any| any.iter().any(given)) {
            return refuse(format!("`{}` is not known without its flags", self.name()));
        }
        let operands = self
            .form
            .operands_with
            .iter()
            .find(|(flag, _)| given(flag))
            .map_or(&self.form.operands, |(_, operands)| operands);
        let inner = self.check_operands(operands)?;
        // `-m` of `python -m pytest` is a flag like any other.
        self.flags.extend(self.form.run.iter().filter(|word| word.starts_with('-')).cloned());
        self.flags.sort();
        self.flags.dedup();
        let follows_links = self.form.follows.iter().any(|flag| self.flags.contains(flag));
        Ok(Reading {
            form: self.form,
            flags: self.flags,
            operands: self.operands.iter().map(|word| (*word).to_owned()).collect(),
            paths: self.paths,
            follows_links,
            hosts: self.hosts,
            inner,
        })
    }

    /// Checks each operand by its kind; gives back the command that they are, if they are one.
    fn check_operands(&mut self, operands: &Operands) -> Clear<Option<Vec<String>>> {
        let given = std::mem::take(&mut self.operands);
        let Some(kinds) = operands.kinds(given.len()) else {
            return refuse(format!("`{}` is not known with {} operands", self.name(), given.len()));
        };
        let mut inner = Vec::new();
        for (kind, operand) in kinds.iter().zip(&given) {
            if **kind == Kind::Command {
                inner.push((*operand).to_owned());
                continue;
            }
            let is_flag = operand.starts_with('-') && operand.len() > 1;
            if is_flag && !self.begins_with_dashes && !kind.may_look_like_a_flag() {
                return refuse(format!(
                    "`{}` is given `{operand}`, which may be a flag",
                    self.name()
                ));
            }
            match kind.check(operand) {
                Ok(note) => self.take_note(note, operand),
                Err(why) => {
                    return refuse(format!("`{}` is given `{operand}`: {why}", self.name()));
                }
            }
        }
        self.operands = given;
        Ok(operands.wraps_a_command().then_some(inner))
    }

    fn name(&self) -> String {
        self.form.run.join(" ")
    }

    fn refuse_flag<T>(&self, flag: &str) -> Clear<T> {
        refuse(format!("`{}` is given `{flag}`, which its grammar does not know", self.name()))
    }

    fn refuse_operand<T>(&self, operand: &str) -> Clear<T> {
        refuse(format!("`{}` is given `{operand}` where no operand belongs", self.name()))
    }
}
