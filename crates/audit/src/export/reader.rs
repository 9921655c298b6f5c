//! Reads lines of bounded length, and keeps the digest over those that it gave out.

use std::io::{self, BufRead, Read};

use sha2::{Digest, Sha256};

use super::line::MAX_LINE_BYTES;
use crate::Hash;

/// What came instead of a line.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The reader failed.
    Io(io::Error),
    /// Longer than any line may be.
    TooLong,
    /// The last line has no newline.
    CutOff,
}

/// See the module.
pub(super) struct LineReader<R> {
    source: R,
    line: Vec<u8>,
    lines: u64,
    digest: Sha256,
}

impl<R: BufRead> LineReader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, line: Vec::new(), lines: 0, digest: Sha256::new() }
    }

    /// The number of the current line, from 1.
    pub(super) fn number(&self) -> u64 {
        self.lines
    }

    /// How many lines stand before the current one, and the digest of their bytes.
    pub(super) fn before(&self) -> (u64, Hash) {
        (self.lines.saturating_sub(1), self.digest.clone().finalize().into())
    }

    /// Whether there is another line; [`LineReader::line`] is it then, without its newline.
    pub(super) fn advance(&mut self) -> Result<bool, ReadError> {
        // The digest is always that of the lines before the current one.
        if self.lines > 0 {
            self.digest.update(&self.line);
        }
        self.line.clear();
        self.lines += 1;
        let mut bounded = self.source.by_ref().take(MAX_LINE_BYTES as u64 + 1);
        let length = bounded.read_until(b'\n', &mut self.line).map_err(ReadError::Io)?;
        match self.line.last() {
            None => Ok(false),
            Some(b'\n') => Ok(true),
            Some(_) if length > MAX_LINE_BYTES => Err(ReadError::TooLong),
            Some(_) => Err(ReadError::CutOff),
        }
    }

    pub(super) fn line(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_with_the_digest_of_those_before() {
        let mut reader = LineReader::new(&b"a\n\nb"[..]);
        assert!(reader.advance().expect("reads"));
        assert_eq!((reader.line(), reader.before()), (&b"a"[..], (0, Sha256::digest("").into())));
        assert!(reader.advance().expect("reads"));
        let digest = Sha256::digest("a\n").into();
        assert_eq!((reader.line(), reader.before()), (&b""[..], (1, digest)));
        assert!(matches!(reader.advance(), Err(ReadError::CutOff)));
    }

    #[test]
    fn an_endless_line_is_refused_in_bounded_memory() {
        let mut reader = LineReader::new(io::BufReader::new(io::repeat(b'x')));
        assert!(matches!(reader.advance(), Err(ReadError::TooLong)));
        assert!(reader.line.len() <= MAX_LINE_BYTES + 1);
    }
}
