//! Bytes from one place to another: counted, hashed, limited.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

use protocol::files::FileErrorCode;
use sha2::{Digest, Sha256};

use super::failure::{Outcome, errno_of, of_errno, refuse};

/// Bytes that are moved at once.
pub(crate) const CHUNK_BYTES: usize = 128 * 1024;

/// What went by.
pub(crate) struct Sum {
    pub(crate) bytes: u64,
    /// SHA-256, in hex.
    pub(crate) sha256: String,
}

/// Takes all of `input`, at most `max_bytes`, for the file that `path` names.
pub(crate) fn take(
    input: &mut dyn Read,
    file: &mut File,
    max_bytes: u64,
    path: &str,
    what: &str,
) -> Outcome<Sum> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let count = read_some(input, &mut chunk).map_err(|error| {
            refuse(FileErrorCode::Failed, format!("the {what} could not be received: {error}"))
        })?;
        if count == 0 {
            return Ok(Sum { bytes, sha256: hex(hash) });
        }
        bytes += count as u64;
        if bytes > max_bytes {
            return Err(over(what, max_bytes));
        }
        hash.update(&chunk[..count]);
        file.write_all(&chunk[..count]).map_err(|error| of_errno(path, errno_of(&error)))?;
    }
}

/// Reads once, however often it is interrupted.
pub(crate) fn read_some(input: &mut dyn Read, chunk: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match input.read(chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Over a limit on bytes.
pub(crate) fn over(what: &str, max_bytes: u64) -> protocol::files::FileError {
    let message = format!("the {what} is over the limit of {max_bytes} bytes: send less at once");
    refuse(FileErrorCode::TooLarge, message)
}

/// A digest as text.
pub(crate) fn hex(hash: Sha256) -> String {
    use std::fmt::Write as _;
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
