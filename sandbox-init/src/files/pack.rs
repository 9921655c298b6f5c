//! Packing a folder into an archive. The first walk counts, so that limits and numbers are told
//! ahead; the second one writes. What a command changes meanwhile never breaks the form of the
//! archive: it ends without its end mark, with an error.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, fstat};
use protocol::files::{
    FileError, FileErrorCode, FileKind, FileReply, MAX_ARCHIVE_BYTES, MAX_ARCHIVE_DEPTH,
    MAX_ARCHIVE_ENTRIES,
};
use std::os::unix::ffi::OsStrExt as _;

use super::beneath::{Links, Root, open_file};
use super::failure::{Outcome, errno_of, named, of_errno, of_inner, refuse, shown};
use super::path::RelativePath;
use super::stream::{CHUNK_BYTES, over, read_some};
use super::tarball::{BLOCK, Kind, header_of};
use super::walk::{Bounds, Step, Then, walk};
use super::{answer, unwritten};

/// Gives a folder as an archive behind the reply.
pub(super) fn get_archive(
    root: &Root,
    path: &str,
    max_bytes: u64,
    max_entries: u64,
    output: &mut dyn Write,
) -> Outcome<()> {
    let relative = RelativePath::of_request(path)?;
    let open =
        || root.listing(relative.as_bytes(), Links::Follow).map_err(|errno| of_errno(path, errno));
    let max_bytes = max_bytes.min(MAX_ARCHIVE_BYTES);
    let max_entries = max_entries.min(MAX_ARCHIVE_ENTRIES);
    let mut told = Counts::default();
    each(open()?, &mut |step| {
        told.add(step);
        if step.kind == FileKind::File {
            // While a refusal can still be told.
            open_file(step.folder, step.name).map_err(|errno| of_inner(step.path, errno))?;
        }
        if told.entries > max_entries {
            let message =
                format!("{} has more than {max_entries} entries: pack parts", named(path));
            return Err(refuse(FileErrorCode::TooManyEntries, message));
        }
        if told.bytes > max_bytes {
            return Err(over("content of the folder", max_bytes));
        }
        Ok(())
    })?;
    answer(output, &FileReply::GetArchive { entries: told.entries, bytes: told.bytes })?;

    let mut packed = Counts::default();
    each(open()?, &mut |step| {
        packed.add(step);
        if packed.entries > told.entries || packed.bytes > told.bytes {
            return Err(changed(path));
        }
        pack(step, output)
    })?;
    if packed != told {
        return Err(changed(path));
    }
    let end = [0; 2 * BLOCK as usize];
    output.write_all(&end).and_then(|()| output.flush()).map_err(|error| unwritten(&error))
}

#[derive(Default, PartialEq, Eq)]
struct Counts {
    entries: u64,
    bytes: u64,
}

impl Counts {
    fn add(&mut self, step: &Step<'_>) {
        self.entries += 1;
        if step.kind == FileKind::File {
            self.bytes = self.bytes.saturating_add(bytes_of(&step.stat));
        }
    }
}

fn bytes_of(stat: &FileStat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(u64::MAX)
}

/// Everything of a folder that goes into an archive.
fn each(top: OwnedFd, visit: &mut dyn FnMut(&Step<'_>) -> Outcome<()>) -> Outcome<()> {
    // One more than allowed of either, to see that there are too many.
    let names = usize::try_from(MAX_ARCHIVE_ENTRIES).unwrap_or(usize::MAX).saturating_add(1);
    let bounds = Bounds { names, held: names, depth: MAX_ARCHIVE_DEPTH + 1 };
    let cut = walk(
        top,
        bounds,
        &mut |step| {
            if step.depth > MAX_ARCHIVE_DEPTH {
                let message = format!(
                    "{} is more than {MAX_ARCHIVE_DEPTH} folders deep: pack parts",
                    shown(step.path)
                );
                return Err(refuse(FileErrorCode::TooManyEntries, message).into());
            }
            if step.kind != FileKind::Other {
                visit(step)?;
            }
            Ok(Then::Enter)
        },
        &mut |path, errno| Err(of_inner(path, errno).into()),
    )
    .map_err(|Refused(error)| error)?;
    // Names that were left out are more entries than any archive may have.
    if cut {
        let message = format!("the folder has more than {MAX_ARCHIVE_ENTRIES} entries: pack parts");
        return Err(refuse(FileErrorCode::TooManyEntries, message));
    }
    Ok(())
}

/// A refusal that a walk can carry.
struct Refused(FileError);

impl From<FileError> for Refused {
    fn from(error: FileError) -> Self {
        Self(error)
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self(of_errno("", errno))
    }
}

fn pack(step: &Step<'_>, output: &mut dyn Write) -> Outcome<()> {
    let failed = |errno| of_inner(step.path, errno);
    let mode = step.stat.st_mode & 0o777;
    let time = step.stat.st_mtime;
    let header = match step.kind {
        FileKind::Directory => {
            header_of(&[step.path, b"/"].concat(), b"", Kind::Folder, mode, time, 0)
        }
        FileKind::Symlink => {
            let target = readlinkat(step.folder, step.name).map_err(failed)?;
            header_of(step.path, target.as_bytes(), Kind::Symlink, mode, time, 0)
        }
        FileKind::File => {
            let (fd, stat) = open_file(step.folder, step.name).map_err(failed)?;
            if bytes_of(&stat) != bytes_of(&step.stat) {
                return Err(changed_inner(step.path));
            }
            let header = header_of(step.path, b"", Kind::File, mode, time, bytes_of(&stat));
            output.write_all(&header).map_err(|error| unwritten(&error))?;
            return pack_file(step.path, File::from(fd), &stat, output);
        }
        FileKind::Other => return Ok(()),
    };
    output.write_all(&header).map_err(|error| unwritten(&error))
}

/// Writes exactly as many bytes as the header told, and zeros up to the next block.
fn pack_file(path: &[u8], mut file: File, stat: &FileStat, output: &mut dyn Write) -> Outcome<()> {
    let bytes = bytes_of(stat);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = read_some(&mut file, &mut chunk[..most])
            .map_err(|error| of_inner(path, errno_of(&error)))?;
        if count == 0 {
            return Err(changed_inner(path));
        }
        output.write_all(&chunk[..count]).map_err(|error| unwritten(&error))?;
        left -= count as u64;
    }
    let now = fstat(&file).map_err(|errno| of_inner(path, errno))?;
    let state = |stat: &FileStat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    if state(&now) != state(stat) {
        return Err(changed_inner(path));
    }
    let padding = bytes.next_multiple_of(BLOCK) - bytes;
    let zeros = [0; BLOCK as usize];
    output
        .write_all(&zeros[..usize::try_from(padding).unwrap_or(0)])
        .map_err(|error| unwritten(&error))
}

fn changed(path: &str) -> FileError {
    let message = format!("{} changed while it was packed: try again", named(path));
    refuse(FileErrorCode::Changed, message)
}

fn changed_inner(path: &[u8]) -> FileError {
    let message = format!("{} changed while it was packed: try again", shown(path));
    refuse(FileErrorCode::Changed, message)
}
