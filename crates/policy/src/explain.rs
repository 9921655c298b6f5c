//! Why a command gets its decision: the parse, the facts with the catalogue's words, the rules.

use std::fmt;

use serde::Serialize;

use crate::catalogue::Catalogue;
use crate::decision::Decision;
use crate::engine::Engine;
use crate::facts::{self, Parse};
use crate::request::CommandRequest;

/// A decision with everything that led to it.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The command as it was asked about.
    pub command: String,
    /// How it was read.
    pub parse: Parse,
    /// What is known of each command that it runs, in the order of `decision.facts`.
    pub grammar: Vec<Option<String>>,
    /// The decision, with facts, rules and reasons.
    pub decision: Decision,
}

impl Engine {
    /// Decides, and says why.
    pub fn explain(&self, request: &CommandRequest<'_>) -> Explanation {
        let decision = self.decide(request);
        let about = |fact: &crate::Fact| {
            let words = facts::plain_words(&fact.line).filter(|_| fact.understood)?;
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            Some(Catalogue::get().read(&words).ok()?.form.about.clone())
        };
        let grammar = decision.facts.iter().map(about).collect();
        let parse = Parse::of(request.command, &decision.facts);
        Explanation { command: request.command.to_owned(), parse, grammar, decision }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.parse)?;
        for (fact, grammar) in self.decision.facts.iter().zip(&self.grammar) {
            let indent = if fact.wrapped { "  runs " } else { "" };
            writeln!(f, "{indent}{}", fact.line)?;
            match (&fact.unclear, grammar) {
                (Some(why), _) => writeln!(f, "    not understood: {why}")?,
                (None, about) => {
                    let about = about.as_deref().unwrap_or("understood");
                    writeln!(f, "    {about}")?;
                }
            }
            let effects: Vec<&str> = fact.effects.iter().map(|effect| effect.as_str()).collect();
            let effects = if effects.is_empty() { "nothing".into() } else { effects.join(", ") };
            writeln!(f, "    may: {effects}; runs in {}", fact.cwd)?;
        }
        let decision = &self.decision;
        writeln!(f, "{}, by {}", decision.outcome.as_str(), decision.rules.join(", "))?;
        for reason in &decision.reasons {
            writeln!(f, "    {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_reads_like_one() {
        let request = CommandRequest {
            command: "timeout 5 cat a && rm x",
            cwd: "/work",
            ..CommandRequest::default()
        };
        let text = Engine::shipped().explain(&request).to_string();
        for part in [
            "a plain script:",
            "     \"timeout\" \"5\" \"cat\" \"a\"\n",
            "  && \"rm\" \"x\"\n",
            "timeout 5 cat a",
            "  runs cat a",
            "Prints files",
            "may: write",
            "ask, by default-ask",
            "no rule allows `rm`",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        let request =
            CommandRequest { command: "ls > a", cwd: "/work", ..CommandRequest::default() };
        let text = Engine::shipped().explain(&request).to_string();
        assert!(text.contains("not a plain script: it redirects"), "{text}");
        assert!(text.contains("not understood: it redirects"), "{text}");
    }
}
