//! Packing a folder into an archive as it is read, nothing held in memory but a piece of it.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use tar::{Builder, EntryType, Header};

use super::{MAX_ARCHIVE_BYTES, MAX_ARCHIVE_DEPTH, MAX_ARCHIVE_ENTRIES};

/// A folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// Something in it cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file became shorter while it was read.
    #[error("{0} changed while it was packed; try again when nothing writes to it")]
    Changed(PathBuf),
    /// More than a server takes.
    #[error("{path} is too large: an upload has at most {limit}")]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// The limit that it is over.
        limit: String,
    },
    /// Nobody takes the archive any more.
    #[error("the archive could not be sent")]
    Send(#[source] io::Error),
}

/// Packs what is in `folder` into `out`. Links stay links; what is skipped is returned.
///
/// # Errors
/// When something cannot be read, changes, or is too much, and when `out` takes no more.
pub(crate) fn pack(folder: &Path, out: impl Write) -> Result<Vec<PathBuf>, PackError> {
    let mut packer =
        Packer { folder, archive: Builder::new(out), entries: 0, bytes: 0, skipped: Vec::new() };
    packer.folder(folder, Path::new(""), 0)?;
    let skipped = packer.skipped;
    packer.archive.into_inner().and_then(|mut out| out.flush()).map_err(PackError::Send)?;
    Ok(skipped)
}

struct Packer<'a, W: Write> {
    folder: &'a Path,
    archive: Builder<W>,
    entries: u64,
    bytes: u64,
    skipped: Vec<PathBuf>,
}

impl<W: Write> Packer<'_, W> {
    fn folder(&mut self, path: &Path, name: &Path, depth: usize) -> Result<(), PackError> {
        if depth > MAX_ARCHIVE_DEPTH {
            return Err(self.too_large(format!("{MAX_ARCHIVE_DEPTH} folders in each other")));
        }
        for child in sorted_names(path).map_err(reading(path))? {
            self.entry(&path.join(&child), &name.join(&child), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &Path, depth: usize) -> Result<(), PackError> {
        let metadata = fs::symlink_metadata(path).map_err(reading(path))?;
        let kind = metadata.file_type();
        if kind.is_socket() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
            self.skipped.push(path.to_path_buf());
            return Ok(());
        }
        self.entries += 1;
        if self.entries > MAX_ARCHIVE_ENTRIES {
            return Err(self.too_large(format!("{MAX_ARCHIVE_ENTRIES} entries")));
        }
        if kind.is_symlink() {
            let target = fs::read_link(path).map_err(reading(path))?;
            let mut header = header(&metadata, EntryType::Symlink, 0);
            return self.archive.append_link(&mut header, name, target).map_err(PackError::Send);
        }
        if kind.is_dir() {
            let mut header = header(&metadata, EntryType::Directory, 0);
            let sent = self.archive.append_data(&mut header, name, io::empty());
            sent.map_err(PackError::Send)?;
            return self.folder(path, name, depth + 1);
        }
        self.file(path, name)
    }

    fn file(&mut self, path: &Path, name: &Path) -> Result<(), PackError> {
        // What became a link or a pipe since it was looked at is not read.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let open = File::options().read(true).custom_flags(flags.bits()).open(path);
        let file = open.map_err(reading(path))?;
        let metadata = file.metadata().map_err(reading(path))?;
        if !metadata.is_file() {
            return Err(PackError::Changed(path.to_path_buf()));
        }
        let size = metadata.len();
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MAX_ARCHIVE_BYTES {
            return Err(self.too_large(format!("{MAX_ARCHIVE_BYTES} bytes")));
        }
        let mut header = header(&metadata, EntryType::Regular, size);
        let mut exact = Exact { file: file.take(size), problem: None };
        let sent = self.archive.append_data(&mut header, name, &mut exact);
        match (exact.problem, exact.file.limit()) {
            (Some(source), _) => Err(PackError::Read { path: path.to_path_buf(), source }),
            (None, left) if left > 0 && sent.is_ok() => Err(PackError::Changed(path.to_path_buf())),
            _ => sent.map_err(PackError::Send),
        }
    }

    fn too_large(&self, limit: String) -> PackError {
        PackError::TooLarge { path: self.folder.to_path_buf(), limit }
    }
}

/// Tells an error of the file from one of whoever takes the archive.
struct Exact {
    file: io::Take<File>,
    problem: Option<io::Error>,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer);
        read.map_err(|problem| {
            let kind = problem.kind();
            self.problem = Some(problem);
            kind.into()
        })
    }
}

fn header(metadata: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    // Owners mean nothing elsewhere, and setuid bits must not travel.
    header.set_mode(metadata.mode() & 0o777);
    header.set_mtime(metadata.mtime().try_into().unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header
}

fn sorted_names(path: &Path) -> io::Result<Vec<OsString>> {
    let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name()));
    let mut names: Vec<_> = names.collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> PackError {
    let path = path.to_path_buf();
    move |source| PackError::Read { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::files::unpack;
    use crate::scratch::Scratch;

    #[test]
    fn a_folder_comes_out_as_it_went_in() {
        let (from, into) = (Scratch::new(), Scratch::new());
        let long = "n".repeat(200);
        fs::create_dir(from.path().join("d")).expect("a folder");
        fs::write(from.path().join("d").join(&long), vec![7; 70_000]).expect("written");
        symlink(&long, from.path().join("d/l")).expect("linked");
        let _socket = UnixListener::bind(from.path().join("s")).expect("a socket");
        let path = into.path().join("a.tar");
        let skipped = pack(from.path(), File::create(&path).expect("a file")).expect("packed");
        assert_eq!(skipped, [from.path().join("s")]);
        let mut archive = File::open(&path).expect("a file");
        let unpacked = unpack(&mut archive, into.path()).expect("unpacked");
        assert_eq!((unpacked.entries, unpacked.bytes), (3, 70_000));
        assert_eq!(fs::read(into.path().join("d/l")).expect("read"), vec![7; 70_000]);
        assert_eq!(into.names(), ["a.tar", "d"]);
    }

    #[test]
    fn a_receiver_that_left_is_told_from_a_file_that_is_bad() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let from = Scratch::new();
        fs::write(from.path().join("a"), "a").expect("written");
        assert!(matches!(pack(from.path(), Full), Err(PackError::Send(_))));
    }
}
