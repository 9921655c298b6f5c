//! `sandbox-init tool`: what a model's tools do, as a command of the tenant.
//!
//! The text of a call comes on standard input; what the model is to read goes to standard output,
//! or, when the tool could not do it, to standard error with exit code 1.

mod apply;
mod grep_files;
mod list_dir;
mod patch;
mod place;
mod read_file;
mod seek;

use std::io::{Read, Write};

use protocol::tools::ToolCall;

use place::Places;

/// Longest text of a call, in bytes.
const MAX_CALL_BYTES: u64 = 4 * 1024 * 1024;
/// Largest file that a tool reads, in bytes.
const MAX_TEXT_BYTES: u64 = 16 * 1024 * 1024;

/// Why a tool could not do it, for the model.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

impl Refusal {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// About a path, as it was given.
    fn about(path: &str, errno: nix::errno::Errno) -> Self {
        let path = crate::files::failure::named(path);
        Self(format!("{path} {}", crate::files::failure::reason_of(errno)))
    }
}

impl Refusal {
    /// The same, after some of the files were changed.
    fn half_done(path: &str, errno: nix::errno::Errno) -> Self {
        let Self(message) = Self::about(path, errno);
        Self(format!("{message}. Files before it in the patch may be changed: look at them"))
    }
}

impl From<nix::errno::Errno> for Refusal {
    fn from(errno: nix::errno::Errno) -> Self {
        Self(format!("the folder could not be read: {}", errno.desc()))
    }
}

/// Does the call on standard input. Gives whether it was done.
pub(crate) fn main() -> bool {
    crate::files::prepare();
    let output = &mut std::io::BufWriter::new(std::io::stdout().lock());
    let done = call(&mut std::io::stdin().lock()).and_then(|call| {
        let places = Places::open()?;
        perform(&places, call, output)?;
        output.flush().map_err(|error| unwritten(&error))
    });
    match done {
        Ok(()) => true,
        Err(refusal) => {
            let _ = output.flush();
            let _ = writeln!(std::io::stderr().lock(), "{refusal}");
            false
        }
    }
}

fn call(input: &mut dyn Read) -> Result<ToolCall, Refusal> {
    let mut text = String::new();
    input
        .take(MAX_CALL_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| Refusal::new(format!("the call could not be read: {error}")))?;
    if text.len() as u64 > MAX_CALL_BYTES {
        let message =
            format!("the call is over the limit of {MAX_CALL_BYTES} bytes: do it in parts");
        return Err(Refusal::new(message));
    }
    ToolCall::from_text(&text).map_err(|error| Refusal::new(error.to_string()))
}

fn perform(places: &Places, call: ToolCall, output: &mut dyn Write) -> Result<(), Refusal> {
    match call {
        ToolCall::ApplyPatch { patch } => {
            let report = apply::apply(places, &patch)?;
            output.write_all(report.as_bytes()).map_err(|error| unwritten(&error))
        }
        ToolCall::ReadFile(arguments) => read_file::read_file(places, &arguments, output),
        ToolCall::ListDir(arguments) => list_dir::list_dir(places, &arguments, output),
        ToolCall::GrepFiles(arguments) => grep_files::grep_files(places, &arguments, output),
    }
}

fn unwritten(error: &std::io::Error) -> Refusal {
    Refusal::new(format!("the output could not be written: {error}"))
}

#[cfg(test)]
mod tests;
