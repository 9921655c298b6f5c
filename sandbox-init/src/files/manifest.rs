//! Judges an archive before anything of it is written: what its entries are, where they lead, and
//! whether they agree with each other. Knows nothing of what is on the disk.

use std::collections::BTreeMap;
use std::fs::File;

use protocol::files::{
    FileError, FileErrorCode, MAX_ARCHIVE_BYTES, MAX_ARCHIVE_DEPTH, MAX_ARCHIVE_ENTRIES,
};

use super::failure::{Outcome, refuse, shown};
use super::path::RelativePath;
use super::stream::over;
use super::tarball::{Entries, Entry, Kind};

/// Memory for names, about, in bytes; a name costs its length and this much more.
const MAX_NAMES_BYTES: usize = 24 * 1024 * 1024;
const NAME_COST: usize = 96;

/// What an archive will make.
#[derive(Default)]
pub(super) struct Manifest {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    made: BTreeMap<Vec<u8>, Made>,
    cost: usize,
}

/// What will be at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    File,
    Symlink,
    /// A folder, with its permissions and time if it has an entry of its own.
    Folder(Option<(u32, i64)>),
}

impl Manifest {
    /// Looks at all entries.
    ///
    /// # Errors
    /// Names the first one that may not be unpacked, or the limit that is passed.
    pub(super) fn read(
        archive: &File,
        bytes: u64,
        max_bytes: u64,
        max_entries: u64,
    ) -> Outcome<Self> {
        let max_bytes = max_bytes.min(MAX_ARCHIVE_BYTES);
        let max_entries = max_entries.min(MAX_ARCHIVE_ENTRIES);
        let mut manifest = Self::default();
        let mut entries = Entries::new(archive, bytes);
        while let Some(entry) = entries.next()? {
            manifest.entries += 1;
            if manifest.entries > max_entries {
                return Err(too_many(&format!("more than {max_entries} entries")));
            }
            manifest.bytes = manifest.bytes.saturating_add(entry.bytes);
            if manifest.bytes > max_bytes {
                return Err(over("content of the archive", max_bytes));
            }
            manifest.add(&entry)?;
        }
        Ok(manifest)
    }

    /// Folders that have entries of their own, the deepest first, with permissions and times.
    pub(super) fn folders(&self) -> impl Iterator<Item = (&[u8], u32, i64)> {
        self.made.iter().rev().filter_map(|(path, made)| match made {
            Made::Folder(Some((mode, modified_at))) => Some((&path[..], *mode, *modified_at)),
            _ => None,
        })
    }

    fn add(&mut self, entry: &Entry) -> Outcome<()> {
        let path = path_of(entry)?;
        if entry.mode & 0o6000 != 0 {
            return Err(unsafe_entry(entry, "is setuid or setgid"));
        }
        let made = match entry.kind {
            Kind::File => Made::File,
            Kind::Folder => Made::Folder(Some((entry.mode & 0o777, entry.modified_at))),
            Kind::Symlink => {
                judge_target(entry, path.ancestors().count())?;
                Made::Symlink
            }
            Kind::HardLink => {
                let target = RelativePath::parse(&entry.link).ok();
                if target.is_none_or(|target| self.made.get(target.as_bytes()) != Some(&Made::File))
                {
                    return Err(unsafe_entry(entry, "is a hard link to no file before it"));
                }
                Made::File
            }
            Kind::Special => {
                return Err(unsafe_entry(entry, "is a device, a pipe or of no known type"));
            }
            Kind::Sparse => return Err(unsafe_entry(entry, "is a file with holes (sparse)")),
        };
        if path.is_empty() {
            // `./`, the folder that is unpacked into: it keeps its permissions.
            let folder = matches!(made, Made::Folder(_)) && !entry.path.is_empty();
            return if folder { Ok(()) } else { Err(unsafe_entry(entry, "has no name")) };
        }
        for folder in path.ancestors() {
            self.make(entry, folder, Made::Folder(None))?;
        }
        self.make(entry, path.as_bytes(), made)
    }

    fn make(&mut self, entry: &Entry, path: &[u8], made: Made) -> Outcome<()> {
        match (self.made.get_mut(path), made) {
            (None, _) => {
                self.cost += path.len() + NAME_COST;
                if self.cost > MAX_NAMES_BYTES {
                    return Err(too_many("more names than are looked at"));
                }
                self.made.insert(path.to_vec(), made);
            }
            (Some(Made::Folder(_)), Made::Folder(None)) | (Some(Made::File), Made::File) => {}
            (Some(before @ Made::Folder(_)), Made::Folder(Some(_))) => *before = made,
            (Some(Made::Symlink), Made::Symlink) => {}
            (Some(Made::Symlink), Made::Folder(_)) => {
                return Err(unsafe_entry(entry, "goes through a link of the archive"));
            }
            (Some(_), _) => return Err(unsafe_entry(entry, "contradicts an entry before it")),
        }
        Ok(())
    }
}

/// Where an entry goes.
///
/// # Errors
/// When it leads out, or is too deep.
pub(super) fn path_of(entry: &Entry) -> Outcome<RelativePath> {
    let path = RelativePath::parse(&entry.path)
        .map_err(|fault| unsafe_entry(entry, &format!("has a path that {fault}")))?;
    if path.names().count() > MAX_ARCHIVE_DEPTH {
        return Err(too_many(&format!("folders more than {MAX_ARCHIVE_DEPTH} deep")));
    }
    Ok(path)
}

/// A link may climb to the archive's own top and no higher, and only at the start of its target:
/// after a name, `..` is relative to wherever that name leads.
fn judge_target(entry: &Entry, depth: usize) -> Outcome<()> {
    let target = &entry.link;
    if target.is_empty() || target.contains(&0) || target.first() == Some(&b'/') {
        return Err(unsafe_entry(entry, "is a link with an absolute target, or none"));
    }
    let mut names = target.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let mut climbs = 0;
    let below = names.find(|name| {
        climbs += usize::from(*name == b"..");
        *name != b".."
    });
    if climbs > depth || (below.is_some() && names.any(|name| name == b"..")) {
        return Err(unsafe_entry(entry, "is a link that leads out of the archive's folder"));
    }
    Ok(())
}

fn unsafe_entry(entry: &Entry, why: &str) -> FileError {
    let message = format!(
        "the archive's entry {} {why}: nothing was unpacked, pack it without that entry",
        shown(&entry.path)
    );
    refuse(FileErrorCode::UnsafeArchiveEntry, message)
}

fn too_many(what: &str) -> FileError {
    let message = format!("the archive has {what}: nothing was unpacked, send it in parts");
    refuse(FileErrorCode::TooManyEntries, message)
}
