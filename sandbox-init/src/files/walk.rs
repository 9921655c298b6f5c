//! A walk through a folder, by open folders and names: links are shown and never followed, and
//! nothing that is moved meanwhile leads the walk out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::sys::stat::FileStat;
use protocol::files::FileKind;

use super::beneath::{open_listing, stat_entry};
use super::entry::kind;
use super::list::first_names;

/// What a walk comes by.
pub(crate) struct Step<'a> {
    /// From the top, without a slash at the end.
    pub(crate) path: &'a [u8],
    /// Where it is.
    pub(crate) folder: BorrowedFd<'a>,
    /// Its name there.
    pub(crate) name: &'a [u8],
    pub(crate) kind: FileKind,
    pub(crate) stat: FileStat,
    /// Names from the top; 1 for what is in the top folder.
    pub(crate) depth: usize,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Into it, if it is a folder.
    Enter,
    /// Past it.
    Pass,
    /// No further.
    Stop,
}

/// Limits of a walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most names of a folder that are looked at, the first ones.
    pub(crate) names: usize,
    /// Most names that are held at once, over all folders on the way down.
    pub(crate) held: usize,
    /// Deepest folder that is entered.
    pub(crate) depth: usize,
}

/// What is done about something at a path that cannot be read.
pub(crate) type Unreadable<'a, E> = dyn FnMut(&[u8], Errno) -> Result<(), E> + 'a;

/// Shows everything below `top`, in the order of the names' bytes, a folder before what is in it.
/// What vanishes meanwhile is not shown.
///
/// Tells whether names were left out because of `bounds.names` and `bounds.held`.
///
/// # Errors
/// Of `visit`; and when a folder cannot be read, unless `unreadable` lets it pass.
pub(crate) fn walk<E: From<Errno>>(
    top: OwnedFd,
    bounds: Bounds,
    visit: &mut dyn FnMut(&Step<'_>) -> Result<Then, E>,
    unreadable: &mut Unreadable<'_, E>,
) -> Result<bool, E> {
    let mut path = Vec::new();
    let first = Level::open(top, bounds.names.min(bounds.held), 0)?;
    let mut cut = first.cut;
    let mut levels = vec![first];
    loop {
        let depth = levels.len();
        let held: usize = levels.iter().map(|level| level.names.len()).sum();
        let Some(level) = levels.last_mut() else { return Ok(cut) };
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        path.truncate(level.path_bytes);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let folder = level.folder.as_fd();
        let stat = match stat_entry(folder, &name) {
            Err(Errno::ENOENT) => continue,
            Err(error) => {
                unreadable(&path, error)?;
                continue;
            }
            Ok(stat) => stat,
        };
        let kind = kind(&stat);
        match visit(&Step { path: &path, folder, name: &name, kind, stat, depth })? {
            Then::Stop => return Ok(cut),
            Then::Enter if kind == FileKind::Directory && depth < bounds.depth => {}
            Then::Enter | Then::Pass => continue,
        }
        let most = bounds.names.min(bounds.held.saturating_sub(held));
        let opened =
            open_listing(folder, &name).and_then(|deeper| Level::open(deeper, most, path.len()));
        match opened {
            Ok(level) => {
                cut |= level.cut;
                levels.push(level);
            }
            // Gone, or a link by now.
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => {}
            Err(error) => unreadable(&path, error)?,
        }
    }
}

struct Level {
    folder: OwnedFd,
    names: std::vec::IntoIter<Vec<u8>>,
    path_bytes: usize,
    /// There were more names.
    cut: bool,
}

impl Level {
    fn open(folder: OwnedFd, most: usize, path_bytes: usize) -> nix::Result<Self> {
        let listing = Dir::from_fd(open_listing(folder.as_fd(), b".")?)?;
        let mut names = first_names(listing, None, most.saturating_add(1))?;
        let cut = names.len() > most;
        names.truncate(most);
        Ok(Self { folder, names: names.into_iter(), path_bytes, cut })
    }
}
