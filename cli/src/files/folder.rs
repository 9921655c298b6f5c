//! A folder that is written into without ever following a link inside it: every step is relative
//! to an open folder, and refuses links.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::arrival::unique;

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);

/// An open folder.
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder that the user named; links in that path are the user's own.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, FOLDER, Mode::empty())?))
    }

    /// Opens a folder in this one, made if it is missing. A link in its place is an error.
    pub(super) fn enter(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        match mkdirat(&self.0, name, Mode::from_bits_truncate(mode)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(problem) => return Err(problem.into()),
        }
        Ok(Self(openat(&self.0, name, FOLDER | OFlag::O_NOFOLLOW, Mode::empty())?))
    }

    /// Writes a file, whole or not at all; what had the name before is replaced, not followed.
    pub(super) fn write(
        &self,
        name: &OsStr,
        mode: u32,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        self.place(name, |partial| {
            let mode = Mode::from_bits_truncate(mode);
            let fd = openat(&self.0, partial, flags | OFlag::O_CLOEXEC, mode)?;
            fill(&mut File::from(fd))
        })
    }

    /// Makes a link; what had the name before is replaced.
    pub(super) fn link(&self, name: &OsStr, target: &Path) -> io::Result<()> {
        self.place(name, |partial| Ok(symlinkat(target, &self.0, partial)?))
    }

    /// Makes something under a temporary name and moves it to its own.
    fn place(&self, name: &OsStr, make: impl FnOnce(&OsStr) -> io::Result<()>) -> io::Result<()> {
        let partial = format!(".bulkhead-{}.part", unique()?);
        let partial = OsStr::new(&partial);
        let outcome = make(partial).and_then(|()| Ok(renameat(&self.0, partial, &self.0, name)?));
        if outcome.is_err() {
            // It may not have been made at all.
            let _ = unlinkat(&self.0, partial, UnlinkatFlags::NoRemoveDir);
        }
        outcome
    }
}
