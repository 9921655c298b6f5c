//! A file that appears under its name whole or not at all.
//!
//! It has no name while it is written, so that whoever kills the program leaves nothing behind;
//! only where the file system cannot do that (no `O_TMPFILE`) it has one that a kill would leave.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, renameat, renameat2};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::beneath::{Links, Root, open_entry};
use super::path::RelativePath;
use crate::process::boot_id as random;

/// How often a name is tried that turns out to be taken.
const MAX_TRIES: u32 = 16;

/// See the module.
pub(crate) struct Draft {
    /// Where it has a name, if it has one.
    home: OwnedFd,
    file: File,
    name: Option<Vec<u8>>,
}

impl Draft {
    /// An empty file on the file system of `home`, a folder that may be written to.
    pub(crate) fn new(home: OwnedFd) -> nix::Result<Self> {
        match open_entry(home.as_fd(), b".", OFlag::O_TMPFILE | OFlag::O_RDWR) {
            Ok(file) => Ok(Self { home, file: file.into(), name: None }),
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL) => Self::with_name(home),
            Err(error) => Err(error),
        }
    }

    /// A draft for a file in a folder that may not be there yet: it is not made for it.
    pub(crate) fn before(root: &Root, folder: &RelativePath) -> nix::Result<Self> {
        match root.folder(folder.as_bytes(), Links::Follow) {
            Err(Errno::ENOENT) => Self::new(root.folder(b".", Links::Follow)?),
            folder => Self::new(folder?),
        }
    }

    fn with_name(home: OwnedFd) -> nix::Result<Self> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
        let (name, file) = with_free_name(|name| open_entry(home.as_fd(), name, flags))?;
        Ok(Self { home, file: file.into(), name: Some(name) })
    }

    /// The file, to be written and read again.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives up the name that it may have: the file is for this process alone.
    pub(crate) fn into_nameless(mut self) -> nix::Result<File> {
        self.remove_name();
        self.file.try_clone().map_err(|error| super::failure::errno_of(&error))
    }

    /// Puts the file into `folder` under `name`, in place of whatever had it, and tells whether
    /// nothing had.
    ///
    /// # Errors
    /// `EISDIR` when a folder has the name.
    pub(crate) fn place(
        mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        mode: u32,
    ) -> nix::Result<bool> {
        fchmod(&self.file, Mode::from_bits_truncate(mode))?;
        if let Some(draft) = &self.name {
            let created = match renameat2(
                &self.home,
                &draft[..],
                folder,
                name,
                RenameFlags::RENAME_NOREPLACE,
            ) {
                Ok(()) => true,
                Err(Errno::EEXIST) => {
                    renameat(&self.home, &draft[..], folder, name)?;
                    false
                }
                Err(error) => return Err(error),
            };
            self.name = None;
            return Ok(created);
        }
        match self.link(folder, name) {
            Ok(()) => return Ok(true),
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
        // There is no call that links over a name: a second name, for the moment until the rename.
        let (draft, ()) = with_free_name(|name| self.link(folder, name))?;
        let renamed = renameat(folder, &draft[..], folder, name);
        if renamed.is_err() {
            let _ = unlinkat(folder, &draft[..], UnlinkatFlags::NoRemoveDir);
        }
        renamed.map(|()| false)
    }

    fn link(&self, folder: BorrowedFd<'_>, name: &[u8]) -> nix::Result<()> {
        let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let flags = AtFlags::AT_SYMLINK_FOLLOW;
        match linkat(&self.home, from.as_str(), folder, name, flags) {
            // Without /proc; newer kernels allow this to a file's opener.
            Err(Errno::ENOENT | Errno::EACCES) => {
                linkat(&self.file, "", folder, name, AtFlags::AT_EMPTY_PATH)
            }
            outcome => outcome,
        }
    }

    fn remove_name(&mut self) {
        if let Some(name) = self.name.take() {
            let _ = unlinkat(&self.home, &name[..], UnlinkatFlags::NoRemoveDir);
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.remove_name();
    }
}

/// Makes something under a name that nobody has.
pub(crate) fn with_free_name<T>(
    mut make: impl FnMut(&[u8]) -> nix::Result<T>,
) -> nix::Result<(Vec<u8>, T)> {
    for _ in 0..MAX_TRIES {
        let name = format!(".bulkhead-{:016x}", random()?).into_bytes();
        match make(&name) {
            Ok(made) => return Ok((name, made)),
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EEXIST)
}
