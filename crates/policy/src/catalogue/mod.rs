//! The catalogue: which programs are understood, in which forms. Data in `catalogue/*.toml`, read
//! once; a mistake in it is found by the tests of this module and leaves the program unknown.

mod form;
mod matcher;
mod spec;

use std::collections::HashMap;
use std::sync::LazyLock;

use form::Flags;
pub(crate) use form::Form;
pub(crate) use matcher::Reading;

use crate::unclear::{Clear, Unclear, refuse};

const FILES: &[(&str, &str)] = &[
    ("archives", include_str!("../../catalogue/archives.toml")),
    ("build", include_str!("../../catalogue/build.toml")),
    ("coreutils", include_str!("../../catalogue/coreutils.toml")),
    ("files", include_str!("../../catalogue/files.toml")),
    ("git", include_str!("../../catalogue/git.toml")),
    ("network", include_str!("../../catalogue/network.toml")),
    ("search", include_str!("../../catalogue/search.toml")),
    ("shell", include_str!("../../catalogue/shell.toml")),
    ("system", include_str!("../../catalogue/system.toml")),
    ("text", include_str!("../../catalogue/text.toml")),
    ("wrappers", include_str!("../../catalogue/wrappers.toml")),
];

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::shipped);

/// Every form of every program.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    programs: HashMap<String, Program>,
}

#[derive(Debug, Default)]
struct Program {
    globals: Flags,
    /// Longest `run` first.
    forms: Vec<Form>,
}

impl Catalogue {
    pub(crate) fn get() -> &'static Self {
        &CATALOGUE
    }

    /// A file that does not parse adds nothing: its programs stay unknown, and unknown asks.
    fn shipped() -> Self {
        let mut catalogue = Self::default();
        for (_, text) in FILES {
            let mut one = Self::default();
            if one.add(text).is_ok() {
                catalogue.merge(one);
            }
        }
        catalogue
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let file: spec::File = toml::from_str(text).map_err(|error| error.to_string())?;
        for entry in &file.form {
            let forms = Form::from_entry(entry).map_err(|why| format!("`{}`: {why}", entry.run))?;
            for form in forms {
                let name = form.run.first().cloned().unwrap_or_default();
                self.programs.entry(name).or_default().forms.push(form);
            }
        }
        for globals in &file.globals {
            let program = self.programs.entry(globals.program.clone()).or_default();
            program.globals = Flags::parse(&globals.flags)?;
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        for (name, more) in other.programs {
            let program = self.programs.entry(name).or_default();
            program.forms.extend(more.forms);
            program.forms.sort_by_key(|form| std::cmp::Reverse(form.run.len()));
            if program.globals.is_empty() {
                program.globals = more.globals;
            }
        }
    }

    /// How many programs are known.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.programs.len()
    }

    /// Whether the first operand of a program is a subcommand.
    pub(crate) fn has_subcommands(&self, program: &str) -> bool {
        self.programs
            .get(program)
            .is_some_and(|program| program.forms.iter().any(|form| !form.subcommand().is_empty()))
    }

    /// Reads an argument vector by the grammar of its program.
    pub(crate) fn read(&'static self, argv: &[&str]) -> Clear<Reading> {
        let Some((name, rest)) = argv.split_first() else {
            return refuse("it is empty");
        };
        if name.contains('/') {
            return refuse(format!("`{name}` is run by its path"));
        }
        let Some(program) = self.programs.get(*name) else {
            return refuse(format!("`{name}` is not in the catalogue of known programs"));
        };
        let (globals, rest) = matcher::leading_flags(&program.globals, rest);
        let mut why = Unclear::new(format!("`{name}` is not known in this form"));
        for form in &program.forms {
            let Some(rest) = strip(rest, &form.run[1..]) else { continue };
            match matcher::read(form, globals.clone(), rest) {
                Ok(reading) => return Ok(reading),
                Err(reason) => why = reason,
            }
        }
        Err(why)
    }
}

fn strip<'a, 'b>(words: &'b [&'a str], prefix: &[String]) -> Option<&'b [&'a str]> {
    let same = words.len() >= prefix.len() && words.iter().zip(prefix).all(|(a, b)| a == b);
    same.then(|| &words[prefix.len()..])
}

#[cfg(test)]
mod tests;
