//! Import of Codex rule files: `prefix_rule`, `host_executable` and `network_rule` become Cedar rules,
//! with a report of what cannot be carried over. Nothing becomes looser: where Codex lets a script that
//! it cannot read escape a `forbidden` rule, the imported policy asks.

mod convert;
mod parse;

use serde::Serialize;

/// A Codex rule file as a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Cedar text, ready for `Engine::load`.
    pub policy: String,
    /// What is missing in it, or means less than it did.
    pub report: Vec<Remark>,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The line of the rule file.
    pub line: usize,
    /// What was not carried over, and why.
    pub message: String,
}

/// A rule file that Codex would not load either, or that goes beyond the subset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("line {line}: {message}")]
pub struct ImportError {
    /// The line of the rule file.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Turns a Codex rule file into a policy.
///
/// # Errors
/// Names the first line that is wrong: syntax, an unknown decision, an example that does not hold.
pub fn import_codex_rules(text: &str) -> Result<Import, ImportError> {
    let mut import = Import { policy: String::new(), report: Vec::new() };
    for call in parse::parse(text)? {
        convert::rule(&call, &mut import)?;
    }
    Ok(import)
}

#[cfg(test)]
mod tests;
