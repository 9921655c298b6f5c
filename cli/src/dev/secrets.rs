//! Passwords and tokens of the data folder: made once, kept in files that only we may read.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::DevError;
use crate::dev_file::write_secret;

const PASSWORD_BYTES: usize = 24;

/// A password of 192 random bits, in hex: it needs no quoting anywhere.
pub(super) fn new_password() -> Result<String, DevError> {
    let mut bytes = [0; PASSWORD_BYTES];
    getrandom::fill(&mut bytes).map_err(|source| DevError::File {
        action: "read random bytes from",
        path: "the kernel".into(),
        source: io::Error::other(source.to_string()),
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a file holds, if it is there.
pub(super) fn find<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DevError> {
    match fs::read(path) {
        Ok(bytes) => {
            let value = serde_json::from_slice(&bytes).map_err(io::Error::from);
            value.map(Some).map_err(DevError::file("read", path))
        }
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(problem) => Err(DevError::file("read", path)(problem)),
    }
}

/// Keeps a value as JSON.
pub(super) fn keep(path: &Path, value: &impl Serialize) -> Result<(), DevError> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::from);
    text.and_then(|text| write_secret(path, &text)).map_err(DevError::file("write", path))
}

/// Keeps a text as it is.
pub(super) fn keep_text(path: &Path, text: &str) -> Result<(), DevError> {
    write_secret(path, text.as_bytes()).map_err(DevError::file("write", path))
}
