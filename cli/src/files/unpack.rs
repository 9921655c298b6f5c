//! Unpacking an archive that a tenant made, which may be hostile.
//!
//! All entries are looked at before the first is written. Names that are absolute or go up, links
//! that lead outside, devices and hard links are refused; setuid bits are dropped; nothing is ever
//! written through a link, whoever made it.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use super::folder::Folder;
use super::{MAX_ARCHIVE_BYTES, MAX_ARCHIVE_DEPTH, MAX_ARCHIVE_ENTRIES};
use crate::console::printable;

/// The archive was not unpacked, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// One entry is not what a workspace would hold. Nothing was written.
    #[error("refused `{name}` in the archive: {why}; nothing was written")]
    Refused {
        /// The entry, safe to print.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than the server would give. Nothing was written.
    #[error("refused the archive: it has more than {0}; nothing was written")]
    TooLarge(String),
    /// It is damaged. Nothing was written.
    #[error("the archive is damaged; nothing was written")]
    Damaged(#[source] io::Error),
    /// An entry could not be written here; those before it were.
    #[error("cannot write `{name}`; what came before it in the archive is there")]
    Write {
        /// The entry, safe to print.
        name: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The folder cannot be written to.
    #[error("cannot open the folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Files, folders and links.
    pub(crate) entries: u64,
    /// Bytes of the files.
    pub(crate) bytes: u64,
}

/// One entry that may be written.
struct Planned {
    names: Vec<OsString>,
    what: What,
    mode: u32,
}

#[derive(PartialEq)]
enum What {
    Folder,
    File,
    Link(PathBuf),
}

/// Unpacks `archive` into the folder `into`, which is there.
///
/// # Errors
/// When an entry is refused, the archive is too large or damaged, or the disk does not take it.
pub(crate) fn unpack(archive: &mut File, into: &Path) -> Result<Unpacked, UnpackError> {
    check(archive)?;
    archive.rewind().map_err(UnpackError::Damaged)?;
    let root = Folder::open(into)
        .map_err(|source| UnpackError::Folder { path: into.to_path_buf(), source })?;
    let mut unpacked = Unpacked::default();
    let mut reader = Archive::new(BufReader::new(&*archive));
    for entry in reader.entries().map_err(UnpackError::Damaged)? {
        let mut entry = entry.map_err(UnpackError::Damaged)?;
        let Some(planned) = plan(&entry)? else { continue };
        unpacked.entries += 1;
        unpacked.bytes += write(&root, &planned, &mut entry)
            .map_err(|source| UnpackError::Write { name: shown(&entry), source })?;
    }
    Ok(unpacked)
}

fn check(archive: &File) -> Result<(), UnpackError> {
    let (mut entries, mut bytes) = (0, 0_u64);
    let mut links: HashSet<Vec<OsString>> = HashSet::new();
    let mut reader = Archive::new(BufReader::new(archive));
    for entry in reader.entries().map_err(UnpackError::Damaged)? {
        let entry = entry.map_err(UnpackError::Damaged)?;
        entries += 1;
        bytes = bytes.saturating_add(entry.size());
        if entries > MAX_ARCHIVE_ENTRIES {
            return Err(UnpackError::TooLarge(format!("{MAX_ARCHIVE_ENTRIES} entries")));
        }
        if bytes > MAX_ARCHIVE_BYTES {
            return Err(UnpackError::TooLarge(format!("{MAX_ARCHIVE_BYTES} bytes")));
        }
        let Some(planned) = plan(&entry)? else { continue };
        let names = &planned.names;
        if (1..names.len()).any(|depth| links.contains(&names[..depth])) {
            return Err(refused(&entry, "it would be written through a link of the archive"));
        }
        if matches!(planned.what, What::Link(_)) {
            links.insert(planned.names);
        }
    }
    Ok(())
}

/// What an entry asks for; none for one that says nothing.
fn plan<R: Read>(entry: &Entry<'_, R>) -> Result<Option<Planned>, UnpackError> {
    let raw = entry.path_bytes();
    let names = names_of(&raw).map_err(|why| refused(entry, why))?;
    let what = match entry.header().entry_type() {
        EntryType::XGlobalHeader => return Ok(None),
        EntryType::Directory => What::Folder,
        // Archives of the oldest kind tell folders by their names.
        EntryType::Regular if raw.ends_with(b"/") => What::Folder,
        EntryType::Regular | EntryType::Continuous => What::File,
        EntryType::Symlink => {
            let target = entry.link_name_bytes().unwrap_or_default();
            check_link(&target, names.len()).map_err(|why| refused(entry, why))?;
            What::Link(PathBuf::from(OsStr::from_bytes(&target)))
        }
        EntryType::Link => return Err(refused(entry, "it is a hard link")),
        EntryType::Char | EntryType::Block => return Err(refused(entry, "it is a device")),
        EntryType::Fifo => return Err(refused(entry, "it is a pipe")),
        _ => return Err(refused(entry, "it is neither a file, a folder nor a link")),
    };
    if names.is_empty() && what != What::Folder {
        return Err(refused(entry, "it has no name"));
    }
    let mode = entry.header().mode().map_err(UnpackError::Damaged)? & 0o777;
    Ok(Some(Planned { names, what, mode }))
}

fn names_of(raw: &[u8]) -> Result<Vec<OsString>, &'static str> {
    if raw.starts_with(b"/") {
        return Err("its name is absolute");
    }
    if raw.contains(&0) {
        return Err("its name has a zero byte");
    }
    let names = raw.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let names: Vec<OsString> = names.map(|name| OsString::from_vec(name.to_vec())).collect();
    if names.iter().any(|name| name == "..") {
        return Err("its name contains `..`");
    }
    if names.len() > MAX_ARCHIVE_DEPTH {
        return Err("it lies too deep");
    }
    Ok(names)
}

/// Whether a link stays inside, whatever other links it leads over: it may go up at its beginning
/// only, where the folders are known to be real ones.
fn check_link(target: &[u8], depth: usize) -> Result<(), &'static str> {
    if target.is_empty() || target.contains(&0) {
        return Err("it is a link to nothing");
    }
    if target.starts_with(b"/") {
        return Err("it is a link to an absolute path");
    }
    let mut names = target.split(|byte| *byte == b'/').filter(|n| !n.is_empty() && *n != b".");
    let ups = names.by_ref().take_while(|name| *name == b"..").count();
    if ups >= depth.max(1) || names.any(|name| name == b"..") {
        return Err("it is a link that may lead outside");
    }
    Ok(())
}

fn write<R: Read>(root: &Folder, planned: &Planned, entry: &mut Entry<'_, R>) -> io::Result<u64> {
    // A folder that its owner could not write into would stop what comes after it.
    let (folders, last) = match (&planned.what, planned.names.split_last()) {
        (What::Folder, _) | (_, None) => (planned.names.as_slice(), None),
        (_, Some((last, folders))) => (folders, Some(last)),
    };
    let mut folder: Option<Folder> = None;
    for (at, name) in folders.iter().enumerate() {
        let is_entry = last.is_none() && at + 1 == folders.len();
        let mode = if is_entry { planned.mode | 0o700 } else { 0o755 };
        folder = Some(folder.as_ref().unwrap_or(root).enter(name, mode)?);
    }
    let (folder, Some(name)) = (folder.as_ref().unwrap_or(root), last) else { return Ok(0) };
    match &planned.what {
        What::Link(target) => folder.link(name, target).map(|()| 0),
        What::File | What::Folder => {
            let size = entry.size();
            folder.write(name, planned.mode, |file| {
                let copied = io::copy(entry, file)?;
                if copied == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            })?;
            Ok(size)
        }
    }
}

fn refused<R: Read>(entry: &Entry<'_, R>, why: &'static str) -> UnpackError {
    UnpackError::Refused { name: shown(entry), why }
}

fn shown<R: Read>(entry: &Entry<'_, R>) -> String {
    printable(&String::from_utf8_lossy(&entry.path_bytes()))
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
