//! Reading a file. It is read twice: once for its digest, which goes ahead of it, and once to be
//! sent. What a command changes in between is noticed before the last byte goes out.

use std::fs::File;
use std::io::{Read, Seek, Write};

use protocol::files::{FileError, FileErrorCode, FileReply, MAX_FILE_BYTES};
use sha2::{Digest, Sha256};

use super::beneath::{Links, Root};
use super::entry::modified_at_ms;
use super::failure::{Outcome, errno_of, named, of_errno, refuse};
use super::path::RelativePath;
use super::stream::{CHUNK_BYTES, hex, read_some};
use super::{answer, unwritten};

/// Gives a file's bytes behind the reply.
pub(super) fn get(root: &Root, path: &str, max_bytes: u64, output: &mut dyn Write) -> Outcome<()> {
    let relative = RelativePath::of_request(path)?;
    RelativePath::of_entry(path)?;
    let (fd, stat) =
        root.file(relative.as_bytes(), Links::Follow).map_err(|errno| of_errno(path, errno))?;
    let bytes = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let max_bytes = max_bytes.min(MAX_FILE_BYTES);
    if bytes > max_bytes {
        let message = format!(
            "{} has {bytes} bytes, over the limit of {max_bytes}: read a part of it with a command",
            named(path)
        );
        return Err(refuse(FileErrorCode::TooLarge, message));
    }
    let mut file = File::from(fd);
    let sha256 = read_through(&mut file, bytes, path, &mut |_, _| Ok(()))?;
    file.rewind().map_err(|error| of_errno(path, errno_of(&error)))?;
    let modified_at_ms = modified_at_ms(&stat);
    answer(output, &FileReply::Get { bytes, sha256: sha256.clone(), modified_at_ms })?;

    let mut last = Vec::new();
    let again = read_through(&mut file, bytes, path, &mut |chunk, is_last| {
        if is_last {
            last = chunk.to_vec();
            return Ok(());
        }
        output.write_all(chunk).map_err(|error| unwritten(&error))
    })?;
    if again != sha256 {
        return Err(changed(path));
    }
    output.write_all(&last).and_then(|()| output.flush()).map_err(|error| unwritten(&error))
}

/// Reads exactly `bytes` and shows them, telling which piece is the last. Gives their digest.
fn read_through(
    file: &mut File,
    bytes: u64,
    path: &str,
    show: &mut dyn FnMut(&[u8], bool) -> Outcome<()>,
) -> Outcome<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = read_some(file as &mut dyn Read, &mut chunk[..most])
            .map_err(|error| of_errno(path, errno_of(&error)))?;
        if count == 0 {
            return Err(changed(path));
        }
        left -= count as u64;
        hash.update(&chunk[..count]);
        show(&chunk[..count], left == 0)?;
    }
    Ok(hex(hash))
}

fn changed(path: &str) -> FileError {
    let message = format!("{} changed while it was read: try again", named(path));
    refuse(FileErrorCode::Changed, message)
}
