//! The file of one stream. What is done here may wait for the disk, so it is done on threads that may;
//! knows neither caps nor offsets.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// Bytes to keep, where they came.
pub(crate) struct Kept {
    pub(crate) bytes: Vec<u8>,
    pub(crate) range: Range<usize>,
}

impl Kept {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

/// See the module.
pub(crate) struct SpoolFile {
    path: PathBuf,
    file: Option<File>,
}

impl SpoolFile {
    /// A stream of which nothing was written.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Goes on behind what the file has.
    pub(crate) fn reopen(&mut self) -> std::io::Result<()> {
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        Ok(())
    }

    /// Writes pieces behind what there is; behind `head`, if there is no file yet. They are the
    /// kernel's when it returns: this process may die then, and if the machine does, so does PID 1.
    pub(crate) fn append(&mut self, head: &[u8], pieces: &[Kept]) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                // Mode 0600: it holds a tenant's output.
                options.create(true).truncate(true).write(true).mode(0o600);
                let mut file = options.open(&self.path)?;
                file.write_all(head)?;
                self.file.insert(file)
            }
        };
        pieces.iter().try_for_each(|piece| file.write_all(piece.as_slice()))
    }
}
