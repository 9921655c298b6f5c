//! The lines of an export. Each is one JSON object with one way to write it: no space, the keys in
//! the order in which they stand here.

use serde::{Deserialize, Serialize};

use crate::{ChainProof, Event, Hash, hex};

/// What [`Manifest::format`] says.
pub const FORMAT: &str = "bulkhead-audit-export";

/// Longest line, in bytes. The largest event has a command of 64 KiB, escaped twice.
pub(super) const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// What an export contains. It proves nothing: what is checked against events and checkpoints is
/// said at each field, the rest is what the server said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`](crate::VERSION).
    pub version: u32,
    /// The chain. Checked.
    pub chain: String,
    /// The first event. Checked.
    pub from: i64,
    /// The last event; one less than `from` if there is none. Checked.
    pub to: i64,
    /// How many events. Checked.
    pub count: i64,
    /// The hash of the event before the first one. Checked.
    #[serde(with = "hex::one")]
    pub previous: Hash,
    /// When it was made, in microseconds since the epoch. Not checked.
    pub created_us: i64,
    /// The public keys of the server, for information only: a verifier trusts those that it was
    /// given by other means.
    pub keys: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestLine {
    pub(super) manifest: Manifest,
}

/// Only enough of a first line to tell its version.
#[derive(Deserialize)]
pub(super) struct AnyManifestLine {
    pub(super) manifest: AnyManifest,
}

#[derive(Deserialize)]
pub(super) struct AnyManifest {
    pub(super) format: String,
    pub(super) version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventLine {
    pub(super) event: Event,
    #[serde(with = "hex::one")]
    pub(super) hash: Hash,
}

/// Writes an event without a copy of it.
#[derive(Serialize)]
pub(super) struct EventLineRef<'a> {
    pub(super) event: &'a Event,
    #[serde(with = "hex::one")]
    pub(super) hash: Hash,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckpointLine {
    pub(super) checkpoint: ChainProof,
}

#[derive(Serialize)]
pub(super) struct CheckpointLineRef<'a> {
    pub(super) checkpoint: &'a ChainProof,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndLine {
    pub(super) end: End,
}

/// Shows that nothing was lost on the way.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    /// How many lines stand before this one.
    pub(super) lines: u64,
    /// SHA-256 of their bytes, newlines included.
    #[serde(with = "hex::one")]
    pub(super) sha256: Hash,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BrokenOffLine {
    pub(super) broken_off: BrokenOff,
}

/// Why a server broke an export off: the last line that it sent. Not checked, proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokenOff {
    /// The code that its answer would have had.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

impl BrokenOff {
    /// Its line, with the newline.
    pub fn to_line(&self) -> String {
        // Strings only: writing them to memory cannot fail.
        let line = serde_json::to_string(&BrokenOffLine { broken_off: self.clone() });
        line.unwrap_or_default() + "\n"
    }

    /// What the last line of `bytes` tells, if it is such a line.
    pub fn at_end(bytes: &[u8]) -> Option<Self> {
        let line = bytes.strip_suffix(b"\n")?;
        let line = line.rsplit(|byte| *byte == b'\n').next()?;
        let line: BrokenOffLine = serde_json::from_slice(line).ok()?;
        Some(line.broken_off)
    }
}

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // From a file that anybody may have written: nothing of it may move a terminal's cursor.
        write!(f, "{} ({})", self.message.escape_debug(), self.code.escape_debug())
    }
}

/// A line, told by its first key.
pub(super) enum Line {
    Manifest,
    Event(Box<EventLine>),
    Checkpoint(CheckpointLine),
    BrokenOff(BrokenOff),
    End(End),
}

/// Why a line is none.
pub(super) enum LineError {
    Unknown,
    Json(serde_json::Error),
    NotCanonical,
}

impl Line {
    /// Reads a line without its newline. `scratch` is kept between lines only for its memory.
    pub(super) fn parse(bytes: &[u8], scratch: &mut Vec<u8>) -> Result<Self, LineError> {
        if bytes.starts_with(b"{\"event\":") {
            canonical(bytes, scratch).map(|line| Self::Event(Box::new(line)))
        } else if bytes.starts_with(b"{\"checkpoint\":") {
            canonical(bytes, scratch).map(Self::Checkpoint)
        } else if bytes.starts_with(b"{\"end\":") {
            canonical(bytes, scratch).map(|line: EndLine| Self::End(line.end))
        } else if bytes.starts_with(b"{\"broken_off\":") {
            canonical(bytes, scratch).map(|line: BrokenOffLine| Self::BrokenOff(line.broken_off))
        } else if bytes.starts_with(b"{\"manifest\":") {
            Ok(Self::Manifest)
        } else {
            Err(LineError::Unknown)
        }
    }
}

/// Reads JSON that is written in the one way in which it can be.
pub(super) fn canonical<'a, T: Serialize + Deserialize<'a>>(
    bytes: &'a [u8],
    scratch: &mut Vec<u8>,
) -> Result<T, LineError> {
    let value = serde_json::from_slice(bytes).map_err(LineError::Json)?;
    scratch.clear();
    serde_json::to_writer(&mut *scratch, &value).map_err(LineError::Json)?;
    if scratch != bytes {
        return Err(LineError::NotCanonical);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_an_export_was_broken_off_is_found_in_its_last_line_only() {
        let why = BrokenOff { code: "changed".into(), message: "event 7\u{1b}[2J".into() };
        let line = why.to_line();
        assert_eq!(BrokenOff::at_end(format!("{{}}\n{line}").as_bytes()), Some(why.clone()));
        assert_eq!(BrokenOff::at_end(line.as_bytes()), Some(why.clone()));
        assert_eq!(BrokenOff::at_end(format!("{line}{{}}\n").as_bytes()), None);
        assert_eq!(BrokenOff::at_end(line.trim_end().as_bytes()), None, "cut off");
        assert_eq!(why.to_string(), "event 7\\u{1b}[2J (changed)");
    }
}
