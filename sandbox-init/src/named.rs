//! Whether the paths that a command names are what policy took them for: no link among them leads out
//! of the workspace, to something hidden, or nowhere. Runs in the child that becomes the command, with
//! the command's own rights, as the last thing before it does.
//!
//! What changes afterwards is not seen: other commands of the session may run beside this one. It is
//! the container that keeps a command in, and not this.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, readlink};
use protocol::checks::{MAX_PATHS, NamedPath, Unfit};

/// Where everything may be read that has a plain name.
const ROOTS: [&str; 2] = ["/work", "/tmp"];
/// Entries that are looked through beneath the paths of one command that follows links.
const MAX_ENTRIES: usize = 20_000;
/// How long that may take. PID 1 waits for it.
const MAX_TIME: Duration = Duration::from_millis(500);

/// Looks at every path.
///
/// # Errors
/// Why the first one that is unfit is.
pub(crate) fn check(paths: &[NamedPath]) -> Result<(), Unfit> {
    if paths.len() > MAX_PATHS {
        return Err(Unfit::TooMany);
    }
    let mut search = Search { seen: HashSet::new(), left: MAX_ENTRIES, until: None };
    for NamedPath { path, follows_links } in paths {
        let path = Path::new(path);
        let Some(found) = find(path)? else { continue };
        if found.by_links && !is_plain(&found.real, path) {
            return Err(Unfit::Link);
        }
        if *follows_links {
            search.beneath(found.real)?;
        }
    }
    Ok(())
}

/// What stands at a path.
struct Found {
    /// Where it really is.
    real: PathBuf,
    by_links: bool,
}

/// Follows a path. There may be nothing, or nothing that the command could reach.
fn find(path: &Path) -> Result<Option<Found>, Unfit> {
    match open(path, ResolveFlag::RESOLVE_NO_SYMLINKS) {
        Ok(_) => Ok(Some(Found { real: path.components().collect(), by_links: false })),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ENAMETOOLONG) => Ok(None),
        Err(Errno::ELOOP) => match open(path, ResolveFlag::empty()) {
            Ok(fd) => Ok(Some(Found { real: place(&fd)?, by_links: true })),
            // Whoever writes to it makes a file that nobody has named.
            Err(_) => Err(Unfit::Link),
        },
        Err(_) => Err(Unfit::Path),
    }
}

/// Opens a path without any right to what stands there. Links of `/proc` are never followed.
fn open(path: &Path, more: ResolveFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS | more);
    openat2(AT_FDCWD, path, how)
}

fn place(fd: &OwnedFd) -> Result<PathBuf, Unfit> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    readlink(link.as_str()).map(PathBuf::from).map_err(|_| Unfit::Path)
}

fn is_inside(real: &Path) -> bool {
    ROOTS.iter().any(|root| real.starts_with(root))
}

/// Whether policy would have read this place under its own name as well: it is inside, and hidden only
/// where the name says so.
fn is_plain(real: &Path, named: &Path) -> bool {
    let shown: HashSet<&OsStr> = parts(named).collect();
    is_inside(real) && parts(real).all(|part| !is_hidden(part) || shown.contains(part))
}

fn parts(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part),
        _ => None,
    })
}

fn is_hidden(part: &OsStr) -> bool {
    part.as_bytes().starts_with(b".")
}

/// Looks for links in folders, as a command finds them that follows links.
struct Search {
    /// Device and number of each folder that was looked through.
    seen: HashSet<(u64, u64)>,
    left: usize,
    until: Option<Instant>,
}

impl Search {
    /// Everything beneath `root`, and beneath the folders that links there lead to.
    fn beneath(&mut self, root: PathBuf) -> Result<(), Unfit> {
        let mut folders = VecDeque::from([root.clone()]);
        while let Some(folder) = folders.pop_front() {
            let Some(entries) = self.list(&folder)? else { continue };
            for entry in entries {
                let entry = entry.map_err(|_| Unfit::Path)?;
                self.count()?;
                let kind = entry.file_type().map_err(|_| Unfit::Path)?;
                if kind.is_dir() {
                    folders.push_back(entry.path());
                }
                if kind.is_symlink() {
                    folders.extend(follow(&entry.path(), &root)?);
                }
            }
        }
        Ok(())
    }

    /// The entries of a folder that was not looked through before. `None` for everything that is no
    /// such folder, or that the command could not list.
    fn list(&mut self, folder: &Path) -> Result<Option<fs::ReadDir>, Unfit> {
        let about = match fs::symlink_metadata(folder) {
            Ok(about) => about,
            Err(error) if is_away(error.kind()) => return Ok(None),
            Err(_) => return Err(Unfit::Path),
        };
        if !about.is_dir() || !self.seen.insert((about.dev(), about.ino())) {
            return Ok(None);
        }
        match fs::read_dir(folder) {
            Ok(entries) => Ok(Some(entries)),
            Err(error) if is_away(error.kind()) => Ok(None),
            Err(_) => Err(Unfit::Path),
        }
    }

    fn count(&mut self) -> Result<(), Unfit> {
        self.left = self.left.checked_sub(1).ok_or(Unfit::TooMany)?;
        let now = Instant::now();
        match now > *self.until.get_or_insert(now + MAX_TIME) {
            true => Err(Unfit::TooMany),
            false => Ok(()),
        }
    }
}

fn is_away(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied)
}

/// Where a link leads that was found beneath `root`. What is hidden beneath it is found without links
/// too. `None` when it leads nowhere: there is nothing to read.
fn follow(link: &Path, root: &Path) -> Result<Option<PathBuf>, Unfit> {
    match open(link, ResolveFlag::empty()) {
        Ok(fd) => {
            let real = place(&fd)?;
            let is_found_anyway = is_inside(&real) && real.starts_with(root);
            match is_found_anyway || is_plain(&real, root) {
                true => Ok(Some(real)),
                false => Err(Unfit::Link),
            }
        }
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(None),
        Err(_) => Err(Unfit::Link),
    }
}

#[cfg(test)]
mod tests;
