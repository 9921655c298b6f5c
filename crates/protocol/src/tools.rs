//! Tools for a model that are no shell commands. They run inside the sandbox, by `sandbox-init
//! tool`, as the tenant's user; policy, approval, grant and audit treat them as commands.
//!
//! The program gets the text of a [`ToolCall`] on standard input, starts in the order's `cwd`,
//! writes what the model is to read to standard output, and exits with 0 or, when the tool could
//! not do it, with 1 and the reason on standard error.

use serde::{Deserialize, Serialize};

/// One call, as decided upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolCall {
    /// Changes files by a patch.
    ApplyPatch {
        /// From `*** Begin Patch` to `*** End Patch`.
        patch: String,
    },
    /// Reads lines of a file.
    ReadFile(ReadFile),
    /// Lists a folder.
    ListDir(ListDir),
    /// Finds files whose content matches.
    GrepFiles(GrepFiles),
}

/// Arguments of `read_file`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadFile {
    /// The file, absolute or relative to the working directory.
    pub file_path: String,
    /// First line, from 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub offset: u64,
    /// Most lines.
    #[serde(default = "lines", skip_serializing_if = "is_lines")]
    pub limit: u64,
}

/// Arguments of `list_dir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListDir {
    /// The folder, absolute or relative to the working directory.
    pub dir_path: String,
    /// First entry, from 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub offset: u64,
    /// Most entries.
    #[serde(default = "entries", skip_serializing_if = "is_entries")]
    pub limit: u64,
    /// How deep to go, from 1.
    #[serde(default = "depth", skip_serializing_if = "is_depth")]
    pub depth: u64,
}

/// Arguments of `grep_files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrepFiles {
    /// A regular expression.
    pub pattern: String,
    /// Only files whose name matches this glob, for instance `*.rs` or `*.{ts,tsx}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<String>,
    /// Where to look: a folder or a file; the working directory, without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Most files.
    #[serde(default = "matches", skip_serializing_if = "is_matches")]
    pub limit: u64,
}

fn one() -> u64 {
    1
}
fn is_one(value: &u64) -> bool {
    *value == one()
}
fn lines() -> u64 {
    2000
}
fn is_lines(value: &u64) -> bool {
    *value == lines()
}
fn entries() -> u64 {
    25
}
fn is_entries(value: &u64) -> bool {
    *value == entries()
}
fn depth() -> u64 {
    2
}
fn is_depth(value: &u64) -> bool {
    *value == depth()
}
fn matches() -> u64 {
    100
}
fn is_matches(value: &u64) -> bool {
    *value == matches()
}

/// Text that is no tool call.
#[derive(Debug, thiserror::Error)]
pub enum ToolCallError {
    /// No tool has that name.
    #[error("there is no tool of that name: apply_patch, read_file, list_dir and grep_files exist")]
    UnknownTool,
    /// The arguments are not what the tool takes.
    #[error("the arguments are not what the tool takes: {0}")]
    Arguments(#[from] serde_json::Error),
}

impl ToolCall {
    /// The tool's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ApplyPatch { .. } => "apply_patch",
            Self::ReadFile(_) => "read_file",
            Self::ListDir(_) => "list_dir",
            Self::GrepFiles(_) => "grep_files",
        }
    }

    /// Whether it changes files.
    pub fn writes(&self) -> bool {
        matches!(self, Self::ApplyPatch { .. })
    }

    /// The text that is decided upon, shown, stored and run: the name, then the arguments as JSON
    /// on the same line, or the patch from the next line on.
    pub fn to_text(&self) -> String {
        let arguments = match self {
            Self::ApplyPatch { patch } => return format!("apply_patch\n{patch}"),
            Self::ReadFile(arguments) => serde_json::to_string(arguments),
            Self::ListDir(arguments) => serde_json::to_string(arguments),
            Self::GrepFiles(arguments) => serde_json::to_string(arguments),
        };
        format!("{} {}", self.name(), arguments.unwrap_or_default())
    }

    /// The call that a text stands for.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_text(text: &str) -> Result<Self, ToolCallError> {
        if let Some(patch) = text.strip_prefix("apply_patch\n") {
            return Ok(Self::ApplyPatch { patch: patch.into() });
        }
        let (name, arguments) = text.split_once(' ').ok_or(ToolCallError::UnknownTool)?;
        Self::from_arguments(name, arguments)
    }

    /// The call that a model makes: `arguments` is JSON.
    ///
    /// # Errors
    /// When there is no such tool or it takes other arguments.
    pub fn from_arguments(name: &str, arguments: &str) -> Result<Self, ToolCallError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Patch {
            input: String,
        }
        Ok(match name {
            "apply_patch" => {
                Self::ApplyPatch { patch: serde_json::from_str::<Patch>(arguments)?.input }
            }
            "read_file" => Self::ReadFile(serde_json::from_str(arguments)?),
            "list_dir" => Self::ListDir(serde_json::from_str(arguments)?),
            "grep_files" => Self::GrepFiles(serde_json::from_str(arguments)?),
            _ => return Err(ToolCallError::UnknownTool),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_survives_its_text() {
        let calls = [
            ToolCall::ApplyPatch { patch: "*** Begin Patch\n*** End Patch".into() },
            ToolCall::from_arguments("read_file", r#"{"file_path":"a b"}"#).expect("call"),
            ToolCall::from_arguments("list_dir", r#"{"dir_path":".","depth":3}"#).expect("call"),
            ToolCall::from_arguments("grep_files", r#"{"pattern":"a\nb"}"#).expect("call"),
        ];
        for call in calls {
            assert_eq!(ToolCall::from_text(&call.to_text()).expect("parses"), call);
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_written() {
        let call = ToolCall::from_arguments("read_file", r#"{"file_path":"a"}"#).expect("call");
        assert_eq!(call.to_text(), r#"read_file {"file_path":"a"}"#);
    }

    #[test]
    fn unknown_tools_and_arguments_are_refused() {
        assert!(ToolCall::from_arguments("rm", "{}").is_err());
        assert!(ToolCall::from_arguments("list_dir", r#"{"dir_path":".","x":1}"#).is_err());
    }
}
