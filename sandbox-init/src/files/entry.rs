//! What is known of an entry, for the protocol.

use std::os::fd::BorrowedFd;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag};
use protocol::files::{FileEntry, FileKind};
use std::os::unix::ffi::OsStrExt as _;

use super::beneath::{format, stat_entry};
use super::permissions;

/// An entry of a folder.
pub(super) fn entry(folder: BorrowedFd<'_>, name: &[u8]) -> nix::Result<FileEntry> {
    let stat = stat_entry(folder, name)?;
    let kind = kind(&stat);
    // A link that is gone or replaced by now has no target to tell.
    let target = (kind == FileKind::Symlink)
        .then(|| readlinkat(folder, name).ok())
        .flatten()
        .map(|target| String::from_utf8_lossy(target.as_bytes()).into_owned());
    let exact = std::str::from_utf8(name).is_ok();
    Ok(FileEntry {
        name: String::from_utf8_lossy(name).into_owned(),
        name_base64: (!exact).then(|| STANDARD.encode(name)),
        kind,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        mode: permissions(stat.st_mode),
        modified_at_ms: modified_at_ms(&stat),
        target,
    })
}

/// What an entry is.
pub(crate) fn kind(stat: &FileStat) -> FileKind {
    match format(stat) {
        SFlag::S_IFREG => FileKind::File,
        SFlag::S_IFDIR => FileKind::Directory,
        SFlag::S_IFLNK => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

/// Last change of the content, in milliseconds since the epoch. A tenant may set any time.
pub(super) fn modified_at_ms(stat: &FileStat) -> i64 {
    stat.st_mtime.saturating_mul(1000).saturating_add(stat.st_mtime_nsec / 1_000_000)
}
