//! `sandbox-init files`: work on files of the workspace, as a command of the tenant.
//!
//! Everything is opened beneath the workspace's folder; the kernel refuses what leads out. Knows
//! neither PID 1 nor the executor: one request, one reply, the end.

pub(crate) mod beneath;
mod delete;
pub(crate) mod draft;
mod entry;
pub(crate) mod failure;
pub(crate) mod folder;
mod get;
mod list;
mod manifest;
mod pack;
pub(crate) mod path;
pub(crate) mod put;
mod stream;
mod tarball;
mod unpack;
pub(crate) mod walk;

#[cfg(test)]
pub(crate) mod scratch;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::Path;

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::{Mode, umask};
use protocol::files::{FileError, FileErrorCode, FileReply, FileRequest};

use beneath::Root;
use failure::{Outcome, refuse};

/// Where the workspace is mounted.
pub(crate) const WORKSPACE: &str = "/work";

/// Does what a request asks for. Gives whether it was done.
pub(crate) fn main(request: Option<OsString>) -> bool {
    prepare();
    let outcome = request_of(request).and_then(|request| {
        let root =
            Root::open(Path::new(WORKSPACE)).map_err(|error| failure::of_errno("", error))?;
        perform(&root, request, &mut std::io::stdin().lock(), &mut std::io::stdout().lock())
    });
    match outcome {
        Ok(()) => true,
        Err(error) => {
            let line = serde_json::to_string(&error).unwrap_or_default();
            let _ = writeln!(std::io::stderr().lock(), "{line}");
            false
        }
    }
}

/// Makes permissions exact, and a file over the process' limit an error instead of a signal.
pub(crate) fn prepare() {
    umask(Mode::empty());
    // SAFETY: no handler of ours is installed.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

fn request_of(argument: Option<OsString>) -> Outcome<FileRequest> {
    let text = argument.and_then(|argument| argument.into_string().ok()).unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| {
        refuse(FileErrorCode::Failed, format!("the request is not one of a file's: {error}"))
    })
}

/// Does one piece of work in `root`.
///
/// # Errors
/// Why it was refused.
fn perform(
    root: &Root,
    request: FileRequest,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Outcome<()> {
    let reply = match request {
        FileRequest::Put { path, max_bytes, mode } => put::put(root, &path, max_bytes, mode, input),
        FileRequest::Get { path, max_bytes } => return get::get(root, &path, max_bytes, output),
        FileRequest::Stat { path } => list::stat(root, &path),
        FileRequest::List { path, after, limit } => {
            list::list(root, &path, after.as_deref(), limit)
        }
        FileRequest::Mkdir { path } => folder::mkdir(root, &path),
        FileRequest::Delete { path, recursive } => delete::delete(root, &path, recursive),
        FileRequest::PutArchive { path, max_bytes, max_entries } => {
            unpack::put_archive(root, &path, max_bytes, max_entries, input)
        }
        FileRequest::GetArchive { path, max_bytes, max_entries } => {
            return pack::get_archive(root, &path, max_bytes, max_entries, output);
        }
    };
    answer(output, &reply?)
}

/// Writes the reply's line.
fn answer(output: &mut dyn Write, reply: &FileReply) -> Outcome<()> {
    let line = serde_json::to_string(reply).map_err(|error| {
        refuse(FileErrorCode::Failed, format!("the reply has no JSON: {error}"))
    })?;
    writeln!(output, "{line}").and_then(|()| output.flush()).map_err(|error| unwritten(&error))
}

/// Nobody takes the output.
fn unwritten(error: &std::io::Error) -> FileError {
    refuse(FileErrorCode::Failed, format!("the output could not be written: {error}"))
}

/// The lowest twelve bits of a mode: permissions, setuid, setgid and sticky.
fn permissions(mode: libc::mode_t) -> u32 {
    mode & 0o7777
}

#[cfg(test)]
mod archive_tests;
#[cfg(test)]
mod tests;
