//! The input gate: what is refused before anybody tries to understand it.
//!
//! Only a positive list of bytes passes. Everything that bash could give a meaning of its own
//! (quotes, expansions, separators, redirections, comments, globs) is outside of it.

/// Longest script that is looked at, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Checks a script byte by byte.
///
/// # Errors
/// Says why the script is not looked at any further.
pub(crate) fn check(command: &str) -> Result<(), &'static str> {
    if command.len() > MAX_BYTES {
        return Err("it is longer than 16 KiB");
    }
    if command.trim_matches(' ').is_empty() {
        return Err("it is empty");
    }
    if !command.bytes().all(is_plain) {
        return Err("it contains characters that the shell may give a meaning of their own");
    }
    Ok(())
}

/// Whether a working directory is an ordinary path inside the sandbox's own folders.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let below = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    (below("/work") || below("/tmp"))
        && path.bytes().all(is_plain)
        && path.split('/').all(|part| part != "..")
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b' ' | b'.' | b',' | b'/' | b':' | b'@' | b'%' | b'+' | b'-' | b'_' | b'='
        )
}
