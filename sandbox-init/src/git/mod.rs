//! Whether the repositories that git would find are fit for its disarmed form. Runs in the child that
//! becomes the command, with the command's own rights, as the last thing before it does.
//!
//! Refuses whatever it does not know: git itself is never asked, because what it reads is hostile.

mod index;
mod settings;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use nix::errno::Errno;
use protocol::checks::Unfit;
use protocol::git::MAX_FOLDERS;

use crate::files::beneath::{Links, Root};

/// Largest file of settings, in bytes.
const MAX_SETTINGS_BYTES: u64 = 64 * 1024;
/// Largest index, in bytes: some hundred thousand files.
const MAX_INDEX_BYTES: u64 = 16 * 1024 * 1024;

/// Looks at every repository that git, run in one of `folders`, could take for its own.
///
/// # Errors
/// Why the first one that is unfit is.
pub(crate) fn check(folders: &[String]) -> Result<(), Unfit> {
    if folders.len() > MAX_FOLDERS {
        return Err(Unfit::TooLarge);
    }
    folders.iter().try_for_each(|folder| check_folder(Path::new(folder)))
}

/// Git goes up from where it really is and takes the first repository. What it holds for none, and
/// why, differs by version: all of them have to be fit.
fn check_folder(folder: &Path) -> Result<(), Unfit> {
    let real = folder.canonicalize().map_err(|_| Unfit::Unreadable)?;
    real.ancestors().try_for_each(check_place)
}

fn check_place(place: &Path) -> Result<(), Unfit> {
    let has = |name: &str| exists(&place.join(name));
    if has("HEAD")? && (has("objects")? || has("commondir")?) {
        return Err(Unfit::Bare);
    }
    let own = place.join(".git");
    if !exists(&own)? {
        return Ok(());
    }
    match Root::open(&own) {
        Ok(_) if exists(&own.join("commondir"))? => Err(Unfit::Elsewhere),
        Ok(root) => check_repository(&root),
        // A file that names another folder, or a link to one.
        Err(Errno::ENOTDIR | Errno::ELOOP) => Err(Unfit::Elsewhere),
        Err(_) => Err(Unfit::Unreadable),
    }
}

fn check_repository(root: &Root) -> Result<(), Unfit> {
    if let Some(text) = read(root, b"config", MAX_SETTINGS_BYTES)? {
        settings::check(&text)?;
    }
    match read(root, b"index", MAX_INDEX_BYTES)? {
        Some(bytes) => index::check(&bytes),
        None => Ok(()),
    }
}

/// Whether anything has that name, a dangling link included.
fn exists(path: &Path) -> Result<bool, Unfit> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(_) => Err(Unfit::Unreadable),
    }
}

/// A regular file of the repository's own folder; `None` when there is none.
fn read(root: &Root, name: &[u8], max_bytes: u64) -> Result<Option<Vec<u8>>, Unfit> {
    let fd = match root.file(name, Links::Refuse) {
        Ok((fd, _)) => fd,
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP) => return Err(Unfit::Elsewhere),
        Err(_) => return Err(Unfit::Unreadable),
    };
    let mut bytes = Vec::new();
    let read = File::from(fd).take(max_bytes + 1).read_to_end(&mut bytes);
    match read {
        Ok(count) if count as u64 > max_bytes => Err(Unfit::TooLarge),
        Ok(_) => Ok(Some(bytes)),
        Err(_) => Err(Unfit::Unreadable),
    }
}

#[cfg(test)]
mod tests;
