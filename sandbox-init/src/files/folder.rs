//! Making folders.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use protocol::files::FileReply;

use super::beneath::{Links, Root};
use super::failure::{Outcome, of_errno};
use super::path::RelativePath;

/// Permissions of a folder that nobody said anything about.
pub(crate) const FOLDER_MODE: u32 = 0o755;

/// Makes a folder and those on the way.
pub(super) fn mkdir(root: &Root, path: &str) -> Outcome<FileReply> {
    RelativePath::of_entry(path)?;
    let made = make_folders(root, &RelativePath::of_request(path)?);
    let (_, created) = made.map_err(|errno| {
        // The last name is a file's: more to the point than "no folder".
        let errno =
            if errno == Errno::ENOTDIR && is_entry(root, path) { Errno::EEXIST } else { errno };
        of_errno(path, errno)
    })?;
    Ok(FileReply::Mkdir { created })
}

fn is_entry(root: &Root, path: &str) -> bool {
    let Ok((folder, name)) = RelativePath::of_entry(path) else { return false };
    let Ok(folder) = root.folder(folder.as_bytes(), Links::Follow) else { return false };
    super::beneath::stat_entry(std::os::fd::AsFd::as_fd(&folder), &name).is_ok()
}

/// Opens a folder, making it and those on the way where they are missing. Links that stay in the
/// workspace are followed. Tells whether the last one is new.
pub(crate) fn make_folders(root: &Root, path: &RelativePath) -> nix::Result<(OwnedFd, bool)> {
    make_folders_by(root, path, Links::Follow)
}

/// The same, with links followed or not.
pub(crate) fn make_folders_by(
    root: &Root,
    path: &RelativePath,
    links: Links,
) -> nix::Result<(OwnedFd, bool)> {
    match root.folder(path.as_bytes(), links) {
        Err(Errno::ENOENT) => {}
        outcome => return outcome.map(|folder| (folder, false)),
    }
    let mut parent = root.folder(b".", links)?;
    let mut created = false;
    let whole = path.as_bytes();
    for prefix in path.ancestors().chain([whole]) {
        let name = prefix.rsplit(|byte| *byte == b'/').next().unwrap_or(prefix);
        // Always from the top: a link to a sibling stays in the workspace, but not in its folder.
        let folder = match root.folder(prefix, links) {
            Err(Errno::ENOENT) => {
                created = match mkdirat(&parent, name, Mode::from_bits_truncate(FOLDER_MODE)) {
                    Ok(()) => true,
                    Err(Errno::EEXIST) => false,
                    Err(error) => return Err(error),
                };
                root.folder(prefix, links)?
            }
            outcome => {
                created = false;
                outcome?
            }
        };
        parent = folder;
    }
    Ok((parent, created))
}
