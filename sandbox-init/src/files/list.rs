//! Looking at entries: one, or a folder's, by the page.

use std::collections::BinaryHeap;
use std::os::fd::AsFd;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::dir::Dir;
use nix::errno::Errno;
use protocol::files::{FileErrorCode, FileReply, MAX_LIST_ENTRIES};

use super::beneath::{Links, Root};
use super::entry::entry;
use super::failure::{Outcome, of_errno, refuse};
use super::path::RelativePath;

/// Longest page, in bytes of JSON: names and targets may be long, and longer when they are escaped.
const MAX_PAGE_BYTES: usize = 768 * 1024;

/// What is known of one entry.
pub(super) fn stat(root: &Root, path: &str) -> Outcome<FileReply> {
    let (folder, name) = RelativePath::of_entry(path)?;
    let found = root
        .folder(folder.as_bytes(), Links::Follow)
        .and_then(|folder| entry(folder.as_fd(), &name));
    Ok(FileReply::Stat { entry: found.map_err(|errno| of_errno(path, errno))? })
}

/// A page of a folder.
pub(super) fn list(root: &Root, path: &str, after: Option<&str>, limit: u32) -> Outcome<FileReply> {
    let relative = RelativePath::of_request(path)?;
    let failed = |errno: Errno| of_errno(path, errno);
    let after = after.map(behind).transpose()?;
    let limit = limit.clamp(1, MAX_LIST_ENTRIES) as usize;
    let folder = root.listing(relative.as_bytes(), Links::Follow).map_err(failed)?;
    let again = folder.try_clone().map_err(|error| failed(super::failure::errno_of(&error)))?;
    let mut names = first_names(Dir::from_fd(again).map_err(failed)?, after.as_deref(), limit + 1)
        .map_err(failed)?;
    let mut more = names.len() > limit;
    names.truncate(limit);
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for name in names {
        // One that was deleted meanwhile is not there.
        let Ok(entry) = entry(folder.as_fd(), &name) else { continue };
        bytes += serde_json::to_string(&entry).map_or(0, |text| text.len() + 1);
        if bytes > MAX_PAGE_BYTES && !entries.is_empty() {
            more = true;
            break;
        }
        entries.push(entry);
    }
    Ok(FileReply::List { entries, more })
}

/// The name that a cursor stands for.
fn behind(cursor: &str) -> Outcome<Vec<u8>> {
    let Some(encoded) = cursor.strip_prefix('/') else { return Ok(cursor.into()) };
    STANDARD.decode(encoded).map_err(|_| {
        let message = "`after` is neither a name nor a slash and a name in base64: take it from the \
                       page before";
        refuse(FileErrorCode::InvalidPath, message)
    })
}

/// The first `most` names behind `after`, sorted by their bytes. However many there are, no more
/// are held.
pub(crate) fn first_names(
    folder: Dir,
    after: Option<&[u8]>,
    most: usize,
) -> nix::Result<Vec<Vec<u8>>> {
    let mut best = BinaryHeap::new();
    for found in folder {
        let found = found?;
        let name = found.file_name().to_bytes();
        if matches!(name, b"." | b"..") || after.is_some_and(|after| name <= after) {
            continue;
        }
        if best.len() < most {
            best.push(name.to_vec());
        } else if let Some(mut largest) = best.peek_mut()
            && name < &largest[..]
        {
            *largest = name.to_vec();
        }
    }
    Ok(best.into_sorted_vec())
}
