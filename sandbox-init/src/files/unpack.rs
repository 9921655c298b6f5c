//! Unpacking an archive: received whole, judged whole, then written, entry by entry, beneath the
//! folder and through no link whatever.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use protocol::files::{FileError, FileErrorCode, FileReply, MAX_ARCHIVE_BYTES};

use super::beneath::{Links, Root, open_listing};
use super::draft::{Draft, with_free_name};
use super::failure::{Outcome, code_of, errno_of, of_errno, reason_of, refuse, shown};
use super::folder::{make_folders, make_folders_by};
use super::manifest::{Manifest, path_of};
use super::path::RelativePath;
use super::put::mode_of_replaced;
use super::stream::{CHUNK_BYTES, take};
use super::tarball::{Entries, Entry, Kind};

/// Unpacks what `input` brings.
pub(super) fn put_archive(
    root: &Root,
    path: &str,
    max_bytes: u64,
    max_entries: u64,
    input: &mut dyn Read,
) -> Outcome<FileReply> {
    let folder = RelativePath::of_request(path)?;
    let failed = |errno: Errno| of_errno(path, errno);
    let spool = root.listing(b".", Links::Refuse).and_then(Draft::new);
    let mut archive = spool.and_then(Draft::into_nameless).map_err(|error| of_errno("", error))?;
    let sum = take(input, &mut archive, max_bytes.min(MAX_ARCHIVE_BYTES), path, "archive")?;
    let manifest = Manifest::read(&archive, sum.bytes, max_bytes, max_entries)?;

    check_room(&archive, &manifest)?;
    let (folder, _) = make_folders(root, &folder).map_err(failed)?;
    let target = Root::from(folder);
    let mut entries = Entries::new(&archive, sum.bytes);
    while let Some(entry) = entries.next()? {
        let path = path_of(&entry)?;
        write(&target, &archive, &entry, &path).map_err(|errno| unwritten(&entry.path, errno))?;
    }
    for (path, mode, modified_at) in manifest.folders() {
        finish_folder(&target, path, mode, modified_at).map_err(|errno| unwritten(path, errno))?;
    }
    let Manifest { entries, bytes, .. } = manifest;
    Ok(FileReply::PutArchive { entries, bytes, sha256: sum.sha256 })
}

/// Refuses what plainly does not fit before any of it is written.
fn check_room(archive: &File, manifest: &Manifest) -> Outcome<()> {
    let Ok(stat) = fstatvfs(archive) else { return Ok(()) };
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    if manifest.bytes <= free && manifest.entries <= stat.files_available() {
        return Ok(());
    }
    let message = format!(
        "the archive's files have {} bytes in {} entries, and beside the archive itself {free} bytes \
         and {} entries are free: nothing was unpacked; delete something first, or send it in parts",
        manifest.bytes,
        manifest.entries,
        stat.files_available(),
    );
    Err(refuse(FileErrorCode::WorkspaceFull, message))
}

fn write(target: &Root, archive: &File, entry: &Entry, path: &RelativePath) -> nix::Result<()> {
    let Some((parent, name)) = path.split() else { return Ok(()) };
    let (parent, _) = make_folders_by(target, &parent, Links::Refuse)?;
    match entry.kind {
        Kind::Folder => make_folder(parent.as_fd(), &name),
        Kind::Symlink => {
            replace(parent.as_fd(), &name, |name| symlinkat(&entry.link[..], &parent, name))
        }
        Kind::HardLink => {
            let source = RelativePath::parse(&entry.link).map_err(|_| Errno::EINVAL)?;
            let (folder, from) = source.split().ok_or(Errno::EINVAL)?;
            if source == *path {
                return Ok(());
            }
            let folder = target.folder(folder.as_bytes(), Links::Refuse)?;
            replace(parent.as_fd(), &name, |name| {
                linkat(&folder, &from[..], &parent, name, AtFlags::empty())
            })
        }
        Kind::File => write_file(parent, &name, archive, entry),
        // The manifest refused them.
        Kind::Special | Kind::Sparse => Err(Errno::EINVAL),
    }
}

/// Open to its owner until everything is in it; see [`finish_folder`].
fn make_folder(parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<()> {
    match mkdirat(parent, name, Mode::S_IRWXU) {
        Err(Errno::EEXIST) => match open_listing(parent, name) {
            Ok(_) => Ok(()),
            Err(Errno::ELOOP | Errno::ENOTDIR) => Err(Errno::EEXIST),
            Err(error) => Err(error),
        },
        outcome => outcome,
    }
}

fn write_file(parent: OwnedFd, name: &[u8], archive: &File, entry: &Entry) -> nix::Result<()> {
    match mode_of_replaced(parent.as_fd(), name) {
        Ok(_) => {}
        Err(Errno::EISDIR | Errno::ENXIO) => return Err(Errno::EEXIST),
        Err(error) => return Err(error),
    }
    let home = parent.try_clone().map_err(|error| errno_of(&error))?;
    let mut draft = Draft::new(home)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done = 0;
    while done < entry.bytes {
        let most = usize::try_from(entry.bytes - done).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let piece = &mut chunk[..most];
        archive.read_exact_at(piece, entry.data_at + done).map_err(|error| errno_of(&error))?;
        draft.file().write_all(piece).map_err(|error| errno_of(&error))?;
        done += most as u64;
    }
    let _ = set_time(draft.file(), entry.modified_at);
    draft.place(parent.as_fd(), name, entry.mode & 0o777).map(|_| ())
}

/// Makes something under a name, in place of a file or a link that has it.
fn replace(
    parent: BorrowedFd<'_>,
    name: &[u8],
    mut make: impl FnMut(&[u8]) -> nix::Result<()>,
) -> nix::Result<()> {
    match make(name) {
        Err(Errno::EEXIST) => {}
        outcome => return outcome,
    }
    let (free, ()) = with_free_name(make)?;
    let renamed = renameat(parent, &free[..], parent, name);
    // Two names of one file are left as they are by rename; otherwise it is gone already.
    let _ = unlinkat(parent, &free[..], UnlinkatFlags::NoRemoveDir);
    renamed.map_err(|error| if error == Errno::EISDIR { Errno::EEXIST } else { error })
}

fn finish_folder(target: &Root, path: &[u8], mode: u32, modified_at: i64) -> nix::Result<()> {
    let folder = target.listing(path, Links::Refuse)?;
    let _ = set_time(&folder, modified_at);
    fchmod(&folder, Mode::from_bits_truncate(mode))
}

/// Best effort: a time that the file system cannot hold is no reason to refuse.
fn set_time(file: impl AsFd, seconds: i64) -> nix::Result<()> {
    futimens(file, &TimeSpec::UTIME_NOW, &TimeSpec::new(seconds, 0))
}

fn unwritten(path: &[u8], errno: Errno) -> FileError {
    let message = format!("{} {}; entries before it were unpacked", shown(path), reason_of(errno));
    refuse(code_of(errno), message)
}
