//! The tar format: entries out of a file, entries into a stream. Judges form only; whether an entry
//! may be unpacked is the manifest's business.

use std::fs::File;
use std::os::unix::fs::FileExt;

use protocol::files::{FileError, FileErrorCode};
use tar::{EntryType, Header};

use super::failure::{Outcome, errno_of, of_inner, refuse, shown};

/// Bytes of a header, and what everything is padded to.
pub(super) const BLOCK: u64 = 512;
/// Largest extension header: a long name, or attributes.
const MAX_EXTENSION_BYTES: u64 = 1024 * 1024;

/// An entry, with the extensions before it applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    /// Seconds since the epoch.
    pub(super) modified_at: i64,
    pub(super) bytes: u64,
    /// Where its bytes are in the archive.
    pub(super) data_at: u64,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Folder,
    /// A device, a pipe, or something that only one program knows.
    Special,
    /// A file with holes: what it takes and what it has differ.
    Sparse,
}

/// The entries of an archive.
pub(super) struct Entries<'a> {
    archive: &'a File,
    bytes: u64,
    at: u64,
}

/// What extension headers say of the next entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    bytes: Option<u64>,
    modified_at: Option<i64>,
    sparse: bool,
}

impl<'a> Entries<'a> {
    /// Of an archive of this many bytes.
    pub(super) fn new(archive: &'a File, bytes: u64) -> Self {
        Self { archive, bytes, at: 0 }
    }

    /// The next one; none after the mark that ends an archive.
    pub(super) fn next(&mut self) -> Outcome<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let bytes = header.entry_size().map_err(|_| malformed("a size is no number"))?;
            let data_at = self.at;
            let end =
                bytes.checked_next_multiple_of(BLOCK).and_then(|all| data_at.checked_add(all));
            self.at = end.filter(|end| *end <= self.bytes).ok_or_else(|| {
                let name = shown(&header.path_bytes());
                malformed(&format!("it ends within {name}, or that entry's size is wrong"))
            })?;
            let kind = header.entry_type();
            match kind {
                EntryType::GNULongName => {
                    extensions.path = Some(until_nul(self.extension(data_at, bytes)?));
                }
                EntryType::GNULongLink => {
                    extensions.link = Some(until_nul(self.extension(data_at, bytes)?));
                }
                EntryType::XHeader => extensions.read(&self.extension(data_at, bytes)?)?,
                EntryType::XGlobalHeader => {
                    let mut all = Extensions::default();
                    all.read(&self.extension(data_at, bytes)?)?;
                    if all.path.is_some() || all.link.is_some() || all.bytes.is_some() || all.sparse
                    {
                        return Err(malformed("a global header names or sizes all its files"));
                    }
                }
                _ => return entry(&header, extensions, bytes, data_at).map(Some),
            }
        }
    }

    /// The next header; none at the end mark.
    fn header(&mut self) -> Outcome<Option<Header>> {
        let mut header = Header::new_old();
        if self.at == 0 && self.is_compressed() {
            return Err(malformed("it is compressed: unpack it to a plain tar archive first"));
        }
        if self.at + BLOCK > self.bytes {
            return Err(malformed("its end is missing"));
        }
        self.read(header.as_mut_bytes(), self.at)?;
        self.at += BLOCK;
        let block = header.as_bytes();
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let told = header.cksum().map_err(|_| malformed("a header has no checksum"))?;
        let field = 148..156;
        let sum: u32 = (0..)
            .zip(block)
            .map(|(at, byte)| if field.contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        if told != sum {
            return Err(malformed("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// Whether it begins as what gzip, xz, zstd or bzip2 make.
    fn is_compressed(&self) -> bool {
        let mut start = [0; 4];
        let count = self.archive.read_at(&mut start, 0).unwrap_or_default();
        let known: [&[u8]; 4] = [b"\x1f\x8b", b"\xfd7zX", b"\x28\xb5\x2f\xfd", b"BZh"];
        known.iter().any(|magic| start[..count].starts_with(magic))
    }

    fn extension(&self, at: u64, bytes: u64) -> Outcome<Vec<u8>> {
        if bytes > MAX_EXTENSION_BYTES {
            let message = format!("an extension header is over {MAX_EXTENSION_BYTES} bytes");
            return Err(malformed(&message));
        }
        let mut data = vec![0; usize::try_from(bytes).unwrap_or(0)];
        self.read(&mut data, at)?;
        Ok(data)
    }

    fn read(&self, data: &mut [u8], at: u64) -> Outcome<()> {
        let read = self.archive.read_exact_at(data, at);
        read.map_err(|error| of_inner(b"the archive", errno_of(&error)))
    }
}

fn entry(header: &Header, extensions: Extensions, bytes: u64, data_at: u64) -> Outcome<Entry> {
    let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let link = header.link_name_bytes().map(std::borrow::Cow::into_owned);
    let link = extensions.link.or(link).unwrap_or_default();
    let kind = match header.entry_type() {
        _ if extensions.sparse => Kind::Sparse,
        // Before there was a type for them, folders were files with a slash.
        EntryType::Regular if path.ends_with(b"/") => Kind::Folder,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Directory => Kind::Folder,
        EntryType::GNUSparse => Kind::Sparse,
        _ => Kind::Special,
    };
    if extensions.bytes.is_some_and(|told| told != bytes) {
        return Err(malformed(&format!("{} has two sizes", shown(&path))));
    }
    if bytes > 0 && matches!(kind, Kind::HardLink | Kind::Symlink | Kind::Folder) {
        return Err(malformed(&format!("{} is no file and has a size", shown(&path))));
    }
    let mode = header.mode().map_err(|_| malformed("a mode is no number"))?;
    let modified_at = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
    let modified_at = extensions.modified_at.unwrap_or(modified_at);
    Ok(Entry { path, link, kind, mode, modified_at, bytes, data_at })
}

impl Extensions {
    /// Reads records `length key=value\n`.
    fn read(&mut self, mut data: &[u8]) -> Outcome<()> {
        let broken = || malformed("an extension header is damaged");
        while !data.is_empty() {
            let space = data.iter().take(20).position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length: usize = number(&data[..space]).ok_or_else(broken)?;
            let record = data.get(space + 1..length).ok_or_else(broken)?;
            let record = record.strip_suffix(b"\n").ok_or_else(broken)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.bytes = Some(number(value).ok_or_else(broken)?),
                b"mtime" => {
                    let seconds = value.split(|byte| *byte == b'.').next().unwrap_or(value);
                    self.modified_at = number(seconds);
                }
                _ => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
            data = &data[length..];
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A long name ends with a NUL; what else is in it stays, to be refused.
fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

fn malformed(why: &str) -> FileError {
    let message = format!("this is no tar archive, or a damaged one: {why}");
    refuse(FileErrorCode::MalformedArchive, message)
}

/// The header of an entry, with long names before it as GNU tar writes them.
pub(super) fn header_of(
    path: &[u8],
    link: &[u8],
    kind: Kind,
    mode: u32,
    modified_at: i64,
    bytes: u64,
) -> Vec<u8> {
    let mut blocks = Vec::new();
    for (name, extension) in [(link, EntryType::GNULongLink), (path, EntryType::GNULongName)] {
        if name.len() > 100 {
            let mut header = Header::new_gnu();
            put_bytes(&mut header, 0, b"././@LongLink");
            fill(&mut header, extension, 0o644, 0, name.len() as u64 + 1);
            blocks.extend_from_slice(header.as_bytes());
            blocks.extend_from_slice(name);
            let padded = (blocks.len() + 1).next_multiple_of(BLOCK as usize);
            blocks.resize(padded, 0);
        }
    }
    let mut header = Header::new_gnu();
    put_bytes(&mut header, 0, &path[..path.len().min(100)]);
    put_bytes(&mut header, 157, &link[..link.len().min(100)]);
    let kind = match kind {
        Kind::Folder => EntryType::Directory,
        Kind::Symlink => EntryType::Symlink,
        _ => EntryType::Regular,
    };
    fill(&mut header, kind, mode, modified_at, bytes);
    blocks.extend_from_slice(header.as_bytes());
    blocks
}

fn put_bytes(header: &mut Header, at: usize, bytes: &[u8]) {
    header.as_mut_bytes()[at..at + bytes.len()].copy_from_slice(bytes);
}

fn fill(header: &mut Header, kind: EntryType, mode: u32, modified_at: i64, bytes: u64) {
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(modified_at).unwrap_or(0));
    header.set_size(bytes);
    header.set_cksum();
}
