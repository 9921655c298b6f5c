//! Where in a policy's text something is wrong.

use std::fmt;

/// What is wrong with a policy, and where. Lines and columns count from one, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PolicyError {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
    /// The policy, if it has got an id.
    pub policy: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if let Some(policy) = &self.policy {
            write!(f, "policy `{policy}`: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for PolicyError {}

impl PolicyError {
    pub(super) fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            policy: None,
            message: message.into(),
        }
    }

    pub(super) fn of(mut self, policy: &str) -> Self {
        self.policy = Some(policy.to_owned());
        self
    }
}
