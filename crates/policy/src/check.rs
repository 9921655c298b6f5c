//! `policy check`: a line of JSON in, a line of JSON out. The same engine, offline.

use serde::{Deserialize, Serialize};

use crate::decision::Outcome;
use crate::engine::Engine;
use crate::facts::Fact;
use crate::request::{CommandRequest, Subject};

/// One line of questions.
#[derive(Debug, Deserialize)]
struct Question {
    /// Any JSON value: it comes back as it was.
    #[serde(default)]
    id: serde_json::Value,
    command: String,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    environment: Option<String>,
}

/// One line of answers.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    id: serde_json::Value,
    decision: Outcome,
    rules: &'a [String],
    reasons: &'a [String],
    facts: &'a [Fact],
}

/// Answers one line. The platform's hardening of git is taken for granted, as it is in production.
///
/// # Errors
/// Says what is wrong with a line that is no question.
pub fn check_line(engine: &Engine, line: &str) -> Result<String, serde_json::Error> {
    let question: Question = serde_json::from_str(line)?;
    let subject = Subject {
        role: question.role.as_deref().unwrap_or("agent"),
        environment: question.environment.as_deref().unwrap_or_default(),
        ..Subject::default()
    };
    let decision = engine.decide(&CommandRequest {
        command: &question.command,
        cwd: question.cwd.as_deref().unwrap_or("/work"),
        has_env: false,
        git_hardened: true,
        paths_refused: false,
        subject,
    });
    serde_json::to_string(&Answer {
        id: question.id,
        decision: decision.outcome,
        rules: &decision.rules,
        reasons: &decision.reasons,
        facts: &decision.facts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_gets_its_answer() {
        let engine = Engine::shipped();
        let answer = check_line(&engine, r#"{"id":"a","command":"ls"}"#).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["id"], "a");
        assert_eq!(answer["decision"], "allow");
        assert_eq!(answer["rules"][0], "shipped-read-only");
        assert_eq!(answer["facts"][0]["program"], "ls");
        let ask = check_line(&engine, r#"{"id":7,"command":"ls\u0000","cwd":"/work"}"#).unwrap();
        assert!(ask.contains(r#""id":7,"decision":"ask""#), "{ask}");
    }

    #[test]
    fn a_line_that_is_no_question_is_an_error() {
        for line in ["", "x", "{}", r#"{"id":"a"}"#, r#"{"command":1}"#] {
            assert!(check_line(&Engine::shipped(), line).is_err(), "{line}");
        }
    }
}
