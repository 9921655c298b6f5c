//! A file outside the database to which every checkpoint is appended: it remembers what a restored
//! backup has forgotten. One JSON object a line, `{"number","note"}`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// More than the longest line.
const TAIL_BYTES: u64 = 64 * 1024;

/// One checkpoint in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) number: i64,
    pub(super) note: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
}

impl Witness {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The newest entry. What a crash left of a line is none.
    pub(super) fn last(&self) -> io::Result<Option<Entry>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        let lines = tail.split(|byte| *byte == b'\n');
        Ok(lines.rev().find_map(|line| serde_json::from_slice(line).ok()))
    }

    /// Appends and returns once it is on the disk.
    pub(super) fn append(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                line.insert(0, b'\n');
            }
        }
        file.write_all(&line)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: i64) -> Entry {
        Entry { number, note: format!("note {number}\n") }
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_no_entry_and_spoils_none() {
        let name = format!("bulkhead-witness-{}", std::process::id());
        let witness = Witness::new(std::env::temp_dir().join(name));
        let _ = std::fs::remove_file(witness.path());
        assert_eq!(witness.last().unwrap(), None);
        witness.append(&entry(1)).unwrap();
        witness.append(&entry(2)).unwrap();
        assert_eq!(witness.last().unwrap(), Some(entry(2)));
        let mut file = OpenOptions::new().append(true).open(witness.path()).unwrap();
        file.write_all(b"{\"number\":3,\"no").unwrap();
        assert_eq!(witness.last().unwrap(), Some(entry(2)));
        witness.append(&entry(3)).unwrap();
        assert_eq!(witness.last().unwrap(), Some(entry(3)));
        std::fs::remove_file(witness.path()).unwrap();
    }
}
