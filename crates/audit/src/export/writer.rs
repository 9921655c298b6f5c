//! Writes an export line by line, in constant memory.
//!
//! It checks nothing: what the database holds is what the auditor gets to see, above all if it does
//! not hold together.

use std::io::{self, Write};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::line::{CheckpointLineRef, End, EndLine, EventLineRef, Manifest, ManifestLine};
use crate::{ChainProof, Event, Hash};

/// See the module. The order is: events by number, and each checkpoint directly after the event
/// that is its size.
#[derive(Debug)]
pub struct ExportWriter<W> {
    sink: W,
    line: Vec<u8>,
    lines: u64,
    digest: Sha256,
}

impl<W: Write> ExportWriter<W> {
    /// Begins an export.
    ///
    /// # Errors
    /// When `sink` fails.
    pub fn new(sink: W, manifest: Manifest) -> io::Result<Self> {
        let mut writer = Self { sink, line: Vec::new(), lines: 0, digest: Sha256::new() };
        writer.write(&ManifestLine { manifest })?;
        Ok(writer)
    }

    /// Writes the next event with its stored hash.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn event(&mut self, event: &Event, hash: &Hash) -> io::Result<()> {
        self.write(&EventLineRef { event, hash: *hash })
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn checkpoint(&mut self, proof: &ChainProof) -> io::Result<()> {
        self.write(&CheckpointLineRef { checkpoint: proof })
    }

    /// The sink, to take out of it what was written so far.
    pub fn sink_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Ends the export. Without this a reader sees that it is incomplete.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn finish(mut self) -> io::Result<W> {
        let end = End { lines: self.lines, sha256: self.digest.clone().finalize().into() };
        self.write(&EndLine { end })?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        self.digest.update(&self.line);
        self.lines += 1;
        self.sink.write_all(&self.line)
    }
}

/// The line of a checkpoint by itself, with its newline: what an auditor keeps.
pub fn checkpoint_line(proof: &ChainProof) -> String {
    // Strings and numbers only: writing them to memory cannot fail.
    let line = serde_json::to_string(&CheckpointLineRef { checkpoint: proof }).unwrap_or_default();
    line + "\n"
}
