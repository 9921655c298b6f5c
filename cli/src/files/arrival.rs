//! A file that is being received: it has its name once it is whole, and leaves nothing before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file under a temporary name. Dropping it removes it.
pub(crate) struct Arrival {
    file: File,
    partial: Option<PathBuf>,
    target: PathBuf,
}

impl Arrival {
    /// Begins a file that will be `target`.
    ///
    /// # Errors
    /// When the folder of `target` cannot be written to.
    pub(crate) fn begin(target: &Path) -> io::Result<Self> {
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no file name"))?;
        let mut partial_name = std::ffi::OsString::from(".");
        // A name near the limit must not grow over it.
        partial_name.push(if name.len() > 200 { "download".as_ref() } else { name });
        partial_name.push(format!(".{}.part", unique()?));
        let partial = target.with_file_name(partial_name);
        let file = OpenOptions::new().write(true).create_new(true).open(&partial)?;
        Ok(Self { file, partial: Some(partial), target: target.to_path_buf() })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When the disk is full or broken.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When its bytes do not reach the disk, or the name is a folder's.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(partial) = &self.partial {
            fs::rename(partial, &self.target)?;
        }
        self.partial = None;
        Ok(())
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Nobody can be told here; the name says what it is.
            let _ = fs::remove_file(partial);
        }
    }
}

/// A part of a name that nobody guesses.
pub(super) fn unique() -> io::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(crate::client::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_broken_download_leaves_nothing_and_the_old_file_alone() {
        let scratch = Scratch::new();
        let target = scratch.path().join("a");
        fs::write(&target, "old").expect("written");
        let mut arrival = Arrival::begin(&target).expect("begun");
        arrival.write(b"half").expect("written");
        drop(arrival);
        assert_eq!(scratch.names(), ["a"]);
        assert_eq!(fs::read(&target).expect("read"), b"old");
    }

    #[test]
    fn a_whole_download_replaces_a_link_and_not_its_target() {
        let scratch = Scratch::new();
        let (target, other) = (scratch.path().join("a"), scratch.path().join("b"));
        fs::write(&other, "other").expect("written");
        std::os::unix::fs::symlink(&other, &target).expect("linked");
        let mut arrival = Arrival::begin(&target).expect("begun");
        arrival.write(b"new").expect("written");
        arrival.finish().expect("finished");
        assert_eq!(fs::read(&target).expect("read"), b"new");
        assert_eq!(fs::read(&other).expect("read"), b"other");
        assert_eq!(scratch.names(), ["a", "b"]);
    }
}
