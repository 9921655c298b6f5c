//! What the kernel refused, in the words and codes of the protocol.

use nix::errno::Errno;
use protocol::files::{FileError, FileErrorCode, MAX_NAME_BYTES, MAX_PATH_BYTES};

/// Work that may be refused.
pub(crate) type Outcome<T> = Result<T, FileError>;

/// Most characters of a name that an archive or a folder gave.
const MAX_SHOWN: usize = 200;

/// A refusal.
pub(crate) fn refuse(code: FileErrorCode, message: impl Into<String>) -> FileError {
    FileError { code, message: message.into() }
}

/// A path as the request gave it, for a message.
pub(crate) fn named(path: &str) -> String {
    if path.is_empty() { "the workspace".into() } else { format!("\"{path}\"") }
}

/// A name that is the tenant's own bytes, for a message: in quotes, without control characters, cut.
pub(crate) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut short: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        short.push('…');
    }
    format!("\"{short}\"")
}

/// For programs: what an error of the kernel means.
pub(crate) fn code_of(errno: Errno) -> FileErrorCode {
    match errno {
        Errno::ENOENT => FileErrorCode::NotFound,
        Errno::EXDEV | Errno::ELOOP => FileErrorCode::PathOutside,
        Errno::ENOTDIR => FileErrorCode::NotDirectory,
        Errno::EISDIR | Errno::ENXIO | Errno::ENODEV => FileErrorCode::NotRegularFile,
        Errno::EACCES | Errno::EPERM | Errno::EROFS => FileErrorCode::PermissionDenied,
        Errno::ENAMETOOLONG => FileErrorCode::InvalidPath,
        Errno::ENOSPC | Errno::EDQUOT => FileErrorCode::WorkspaceFull,
        Errno::EFBIG => FileErrorCode::TooLarge,
        Errno::ENOTEMPTY => FileErrorCode::NotEmpty,
        Errno::EEXIST => FileErrorCode::AlreadyExists,
        Errno::EAGAIN | Errno::ESTALE => FileErrorCode::Changed,
        _ => FileErrorCode::Failed,
    }
}

/// What is wrong and what helps, to follow a name.
pub(crate) fn reason_of(errno: Errno) -> String {
    match code_of(errno) {
        FileErrorCode::NotFound => "does not exist: list its folder to see what is there".into(),
        FileErrorCode::PathOutside => "leads out of the workspace by a link (links with absolute \
             targets do, too), or in circles: use the path of the file itself"
            .into(),
        FileErrorCode::NotDirectory => {
            "is no folder, or has a part that is none: check the path".into()
        }
        FileErrorCode::NotRegularFile => {
            "is a folder, a device, a pipe or a socket, and no regular file".into()
        }
        FileErrorCode::PermissionDenied => {
            "is closed to the sandbox's user by its permissions: change them with chmod".into()
        }
        FileErrorCode::InvalidPath => format!(
            "is too long: a path has at most {MAX_PATH_BYTES} bytes, a name {MAX_NAME_BYTES}"
        ),
        FileErrorCode::WorkspaceFull => {
            "does not fit: the workspace is full, delete something first".into()
        }
        FileErrorCode::TooLarge => "is larger than the sandbox's limit on one file".into(),
        FileErrorCode::NotEmpty => {
            "is a folder with something in it: delete that first, or ask for `recursive`".into()
        }
        FileErrorCode::AlreadyExists => {
            "is there already, as something else than what was to be made".into()
        }
        FileErrorCode::Changed => "is being changed or locked by a command: try again".into(),
        _ => format!("could not be worked on: {}", errno.desc()),
    }
}

/// A refusal about the request's own path.
pub(crate) fn of_errno(path: &str, errno: Errno) -> FileError {
    refuse(code_of(errno), format!("{} {}", named(path), reason_of(errno)))
}

/// A refusal about something below it.
pub(crate) fn of_inner(name: &[u8], errno: Errno) -> FileError {
    refuse(code_of(errno), format!("{} {}", shown(name), reason_of(errno)))
}

/// The kernel's number in an error of the standard library.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
