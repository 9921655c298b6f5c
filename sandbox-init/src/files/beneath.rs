//! Opening things beneath a folder, by `openat2`: the kernel refuses `..`, absolute links, magic
//! links and mounts that lead out, whatever happens to the tree meanwhile.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

/// How often an open is repeated when a rename elsewhere made the kernel unsure (`EAGAIN`).
const MAX_TRIES: u32 = 64;

/// Whether links on the way are followed, as long as they stay beneath the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Refuse,
}

/// A folder that nothing opened through it is outside of.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

impl Root {
    /// The folder at `path`, which is no link.
    pub(crate) fn open(path: &Path) -> nix::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        open(path, flags, Mode::empty()).map(Self)
    }

    /// Opens a path relative to the folder; `.` is the folder.
    pub(crate) fn open_at(&self, path: &[u8], flags: OFlag, links: Links) -> nix::Result<OwnedFd> {
        open_beneath(self.0.as_fd(), path, flags, links)
    }

    /// A folder, as a place to resolve names in. Needs no permission to read it.
    pub(crate) fn folder(&self, path: &[u8], links: Links) -> nix::Result<OwnedFd> {
        self.open_at(path, OFlag::O_PATH | OFlag::O_DIRECTORY, links)
    }

    /// A folder, to be listed.
    pub(crate) fn listing(&self, path: &[u8], links: Links) -> nix::Result<OwnedFd> {
        self.open_at(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, links)
    }

    /// A regular file, to be read, with what is known of it. Never waits for a pipe or a device:
    /// they are [`Errno::ENXIO`], a folder is [`Errno::EISDIR`].
    pub(crate) fn file(&self, path: &[u8], links: Links) -> nix::Result<(OwnedFd, FileStat)> {
        let fd = self.open_at(path, READ, links)?;
        regular(fd)
    }
}

impl From<OwnedFd> for Root {
    fn from(folder: OwnedFd) -> Self {
        Self(folder)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// For reading what may turn out to be a pipe, a terminal or a file with a lease.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// Opens one entry of a folder, which must not be a link.
pub(crate) fn open_entry(
    folder: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlag,
) -> nix::Result<OwnedFd> {
    open_beneath(folder, name, flags | OFlag::O_NOFOLLOW, Links::Refuse)
}

/// Opens a folder's entry that is a folder, to be listed.
pub(crate) fn open_listing(folder: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    open_entry(folder, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// Opens a folder's entry that is a regular file, to be read; see [`Root::file`].
pub(crate) fn open_file(folder: BorrowedFd<'_>, name: &[u8]) -> nix::Result<(OwnedFd, FileStat)> {
    regular(open_entry(folder, name, READ)?)
}

/// What is known of a folder's entry; a link is not followed.
pub(crate) fn stat_entry(folder: BorrowedFd<'_>, name: &[u8]) -> nix::Result<FileStat> {
    fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The type bits of a mode.
pub(crate) fn format(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT)
}

fn regular(fd: OwnedFd) -> nix::Result<(OwnedFd, FileStat)> {
    let stat = fstat(&fd)?;
    match format(&stat) {
        SFlag::S_IFREG => Ok((fd, stat)),
        SFlag::S_IFDIR => Err(Errno::EISDIR),
        _ => Err(Errno::ENXIO),
    }
}

fn open_beneath(
    folder: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
    links: Links,
) -> nix::Result<OwnedFd> {
    let mut resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    if links == Links::Refuse {
        resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
    }
    let mut how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    // The kernel refuses a mode where no file can be made.
    if flags.contains(OFlag::O_CREAT) || flags.contains(OFlag::O_TMPFILE) {
        how = how.mode(Mode::S_IRUSR | Mode::S_IWUSR);
    }
    let mut tries = 0;
    loop {
        match openat2(folder, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) if tries < MAX_TRIES => tries += 1,
            outcome => return outcome,
        }
    }
}
