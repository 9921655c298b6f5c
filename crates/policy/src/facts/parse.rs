//! The parse of a script as people are shown it: its commands, how they are joined, their decoded
//! words and redirections; or why it is not plain. It decides nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::plain::{self, Joiner};
use super::{Fact, gate};

/// How a script was read. Its size is bounded: only scripts of at most 16 KiB are plain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Parse {
    /// The simple commands, in order; none if the script is not plain.
    pub commands: Vec<ParsedCommand>,
    /// Why it is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_plain: Option<String>,
}

/// One simple command of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ParsedCommand {
    /// What joins it to the command before it: `&&`, `||`, `;` or `|`; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_by: Option<String>,
    /// Its words as the program gets them, quotes taken off.
    pub words: Vec<String>,
    /// Its redirections, as written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirections: Vec<String>,
}

impl Parse {
    /// The parse behind the facts of a script. The parsers have been asked for these: here the text
    /// is only split again.
    pub fn of(script: &str, facts: &[Fact]) -> Self {
        let opaque = facts.first().filter(|fact| fact.program.is_empty());
        let not_plain = |why: Option<String>| Self {
            commands: Vec::new(),
            not_plain: Some(why.unwrap_or_else(|| "it is not understood".into())),
        };
        if let Some(fact) = opaque {
            return not_plain(fact.unclear.clone());
        }
        let split = gate::check(script).and_then(|()| plain::split(script));
        let commands = match split {
            Ok(commands) => commands,
            Err(why) => return not_plain(Some(why.to_string())),
        };
        let parsed = |(index, command): (usize, plain::Simple)| ParsedCommand {
            joined_by: (index > 0).then(|| sign(command.joiner).to_owned()),
            words: command.words.into_iter().map(|word| word.text).collect(),
            redirections: command.redirects.into_iter().map(|at| script[at].to_owned()).collect(),
        };
        Self { commands: commands.into_iter().enumerate().map(parsed).collect(), not_plain: None }
    }
}

fn sign(joiner: Joiner) -> &'static str {
    match joiner {
        Joiner::And => "&&",
        Joiner::Or => "||",
        Joiner::Pipe => "|",
        Joiner::Sequence => ";",
    }
}

impl fmt::Display for Parse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.not_plain {
            return writeln!(f, "not a plain script: {why}");
        }
        writeln!(f, "a plain script:")?;
        for command in &self.commands {
            let joiner = command.joined_by.as_deref().unwrap_or_default();
            write!(f, "  {joiner:>2}")?;
            for word in &command.words {
                write!(f, " {word:?}")?;
            }
            for redirection in &command.redirections {
                write!(f, " {redirection}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::CommandRequest;

    fn parse(command: &str) -> Parse {
        let request = CommandRequest { command, cwd: "/work", ..CommandRequest::default() };
        Parse::of(command, &super::super::of(&request))
    }

    #[test]
    fn it_shows_commands_joiners_words_and_redirections() {
        let script = "cat 'a b' 2> /dev/null|grep \"it's\" && rm x\\ y || true;ls\npwd";
        let expected = [
            (None, vec!["cat", "a b"], vec!["2> /dev/null"]),
            (Some("|"), vec!["grep", "it's"], vec![]),
            (Some("&&"), vec!["rm", "x y"], vec![]),
            (Some("||"), vec!["true"], vec![]),
            (Some(";"), vec!["ls"], vec![]),
            (Some(";"), vec!["pwd"], vec![]),
        ];
        let parse = parse(script);
        assert_eq!(parse.not_plain, None);
        let owned = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
        assert_eq!(parse.commands.len(), expected.len());
        for (command, (joiner, words, redirections)) in parse.commands.iter().zip(&expected) {
            assert_eq!(command.joined_by.as_deref(), *joiner);
            assert_eq!(command.words, owned(words));
            assert_eq!(command.redirections, owned(redirections));
        }
        let text = parse.to_string();
        assert!(text.contains("&& \"rm\" \"x y\"\n"), "{text}");
        assert!(text.contains("\"cat\" \"a b\" 2> /dev/null\n"), "{text}");
    }

    #[test]
    fn what_is_not_plain_says_why_and_no_more() {
        for (script, why) in [
            ("ls $(id)", "`$`"),
            ("ls > a", "it redirects"),
            ("ls &", "background"),
            ("if true; then ls; fi", "keyword"),
            ("ls \u{202e}", "U+202E"),
            (&"ls; ".repeat(21), "20 commands"),
            (&["timeout 5 ls"; 11].join(";"), "20 commands"),
            (&"x".repeat(200_000), "16 KiB"),
        ] {
            let parse = parse(script);
            assert_eq!(parse.commands, []);
            let reason = parse.not_plain.unwrap_or_default();
            assert!(reason.contains(why) && reason.len() < 300, "{reason}");
        }
    }

    #[test]
    fn its_size_is_bounded_by_that_of_a_plain_script() {
        let largest = format!("echo{}", " 'a'".repeat(999));
        let json = serde_json::to_string(&parse(&largest)).unwrap();
        assert!(parse(&largest).not_plain.is_none() && json.len() < 32 << 10, "{}", json.len());
    }
}
