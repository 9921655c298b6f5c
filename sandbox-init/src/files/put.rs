//! Writing a file.

use std::io::Read;

use nix::errno::Errno;
use nix::sys::stat::SFlag;
use protocol::files::{FileErrorCode, FileReply, MAX_FILE_BYTES};

use super::beneath::{Links, Root, format, stat_entry};
use super::draft::Draft;
use super::failure::{Outcome, named, of_errno, refuse};
use super::folder::make_folders;
use super::path::RelativePath;
use super::stream;
use std::os::fd::AsFd;

/// Permissions of a file that nobody said anything about.
pub(crate) const DEFAULT_MODE: u32 = 0o644;

/// Takes the bytes first: a file that is refused has changed nothing, and made no folder.
pub(super) fn put(
    root: &Root,
    path: &str,
    max_bytes: u64,
    mode: Option<u32>,
    input: &mut dyn Read,
) -> Outcome<FileReply> {
    if path.ends_with('/') {
        let message = format!("the path {} ends in a slash: give the name of a file", named(path));
        return Err(refuse(FileErrorCode::InvalidPath, message));
    }
    let (folder, name) = RelativePath::of_entry(path)?;
    let failed = |errno: Errno| of_errno(path, errno);
    // What is there and no file is told before the bytes are taken.
    if let Ok(folder) = root.folder(folder.as_bytes(), Links::Follow) {
        mode_of_replaced(folder.as_fd(), &name).map_err(failed)?;
    }
    let mut draft = Draft::before(root, &folder).map_err(failed)?;
    let sum = stream::take(input, draft.file(), max_bytes.min(MAX_FILE_BYTES), path, "file")?;
    let (folder, _) = make_folders(root, &folder).map_err(failed)?;
    let kept = mode_of_replaced(folder.as_fd(), &name).map_err(failed)?;
    let mode = mode.or(kept).unwrap_or(DEFAULT_MODE) & 0o777;
    let created = draft.place(folder.as_fd(), &name, mode).map_err(failed)?;
    Ok(FileReply::Put { bytes: sum.bytes, sha256: sum.sha256, created })
}

/// The permissions of the regular file that has the name. A link there has none of its own, and is
/// itself what is replaced.
///
/// # Errors
/// When the name is a folder's, a device's, a pipe's or a socket's.
pub(crate) fn mode_of_replaced(
    folder: std::os::fd::BorrowedFd<'_>,
    name: &[u8],
) -> nix::Result<Option<u32>> {
    match stat_entry(folder, name) {
        Ok(stat) => match format(&stat) {
            SFlag::S_IFREG => Ok(Some(stat.st_mode & 0o777)),
            SFlag::S_IFLNK => Ok(None),
            SFlag::S_IFDIR => Err(Errno::EISDIR),
            _ => Err(Errno::ENXIO),
        },
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
