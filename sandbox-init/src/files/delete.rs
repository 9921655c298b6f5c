//! Deleting. Works on open folders and names only: no link is followed, no path can be too long.

use std::fs::set_permissions;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use protocol::files::FileReply;

use super::beneath::{Links, Root, format, open_entry, open_listing, stat_entry};
use super::draft::with_free_name;
use super::failure::{Outcome, errno_of, of_errno};
use super::path::RelativePath;

/// Folders that are open at once. What is deeper is moved up first, so that any depth will do.
const MAX_OPEN: usize = 64;
/// How often a folder is emptied again that commands go on filling.
const MAX_ROUNDS: u32 = 16;

/// Deletes a file, a link or a folder.
pub(super) fn delete(root: &Root, path: &str, recursive: bool) -> Outcome<FileReply> {
    let (folder, name) = RelativePath::of_entry(path)?;
    let gone = root.folder(folder.as_bytes(), Links::Follow).and_then(|folder| {
        let stat = stat_entry(folder.as_fd(), &name)?;
        if format(&stat) != SFlag::S_IFDIR {
            unlinkat(&folder, &name[..], UnlinkatFlags::NoRemoveDir)?;
            return Ok(1);
        }
        if !recursive {
            unlinkat(&folder, &name[..], UnlinkatFlags::RemoveDir)?;
            return Ok(1);
        }
        let mut entries = 0;
        delete_folder(folder.as_fd(), &name, &mut entries)?;
        Ok(entries)
    });
    let entries = gone.map_err(|errno| {
        // rmdir may say either of a folder that is not empty.
        let errno = if errno == Errno::EEXIST { Errno::ENOTEMPTY } else { errno };
        of_errno(path, errno)
    })?;
    Ok(FileReply::Delete { entries })
}

/// Deletes a folder and everything in it.
fn delete_folder(parent: BorrowedFd<'_>, name: &[u8], entries: &mut u64) -> nix::Result<()> {
    for _ in 0..MAX_ROUNDS {
        let top = open_for_deletion(parent, name)?;
        // Until a round finds nothing: the folders that were moved up are emptied by the next one.
        while empty(&top, entries)? {}
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => {
                *entries += 1;
                return Ok(());
            }
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EAGAIN)
}

/// One walk through a folder, which deletes what is at most [`MAX_OPEN`] deep and moves up what is
/// deeper. Tells whether that was the case.
fn empty(top: &OwnedFd, entries: &mut u64) -> nix::Result<bool> {
    let mut moved = false;
    let mut levels = vec![Level::open(top.try_clone().map_err(|_| Errno::EMFILE)?, Vec::new())?];
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { return Ok(moved) };
        let Some(name) = level.next_name()? else {
            let Some(done) = levels.pop() else { return Ok(moved) };
            if let Some(level) = levels.last() {
                match unlinkat(&level.folder, &done.name[..], UnlinkatFlags::RemoveDir) {
                    Ok(()) => *entries += 1,
                    // Filled again meanwhile, or moved away: the next round sees.
                    Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOENT) => {}
                    Err(error) => return Err(error),
                }
            }
            continue;
        };
        let folder = level.folder.as_fd();
        match stat_entry(folder, &name).map(|stat| format(&stat)) {
            Ok(SFlag::S_IFDIR) => match open_for_deletion(folder, &name) {
                Ok(deeper) if depth < MAX_OPEN => levels.push(Level::open(deeper, name)?),
                Ok(_) => {
                    with_free_name(|free| renameat(folder, &name[..], top, free))?;
                    moved = true;
                }
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            },
            Ok(_) => match unlinkat(folder, &name[..], UnlinkatFlags::NoRemoveDir) {
                Ok(()) => *entries += 1,
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            },
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A folder whose entries are being deleted.
struct Level {
    folder: OwnedFd,
    names: nix::dir::OwningIter,
    name: Vec<u8>,
}

impl Level {
    fn open(folder: OwnedFd, name: Vec<u8>) -> nix::Result<Self> {
        // A descriptor of its own, with a position of its own.
        let names = Dir::from_fd(open_listing(folder.as_fd(), b".")?)?.into_iter();
        Ok(Self { folder, names, name })
    }

    fn next_name(&mut self) -> nix::Result<Option<Vec<u8>>> {
        for found in self.names.by_ref() {
            let name = found?.file_name().to_bytes().to_vec();
            if !matches!(&name[..], b"." | b"..") {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

/// Opens a folder that is to be emptied, and makes it accessible if it belongs to the user.
fn open_for_deletion(parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    let folder = match open_listing(parent, name) {
        Err(Errno::EACCES) => {
            let place = open_entry(parent, name, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            let mode = PermissionsExt::from_mode(accessible(&fstat(&place)?));
            // The folder that is open, whatever has its name by now.
            set_permissions(format!("/proc/self/fd/{}", place.as_raw_fd()), mode)
                .map_err(|error| errno_of(&error))?;
            return open_listing(place.as_fd(), b".");
        }
        outcome => outcome?,
    };
    let stat = fstat(&folder)?;
    if stat.st_mode & 0o700 != 0o700 {
        // Somebody else's cannot be changed; deleting then fails, and says so.
        let _ = fchmod(&folder, Mode::from_bits_truncate(accessible(&stat)));
    }
    Ok(folder)
}

fn accessible(stat: &FileStat) -> u32 {
    stat.st_mode & 0o777 | 0o700
}
