//! Verifies an export in one pass and constant memory, with nothing but the file, the public keys
//! and, if the auditor kept some, earlier checkpoints.

use std::io::BufRead;

use super::error::{Problem, VerifyError};
use super::keepsake::Keepsake;
use super::kept::Kept;
use super::line::{
    AnyManifestLine, End, EventLine, FORMAT, Line, LineError, Manifest, ManifestLine, canonical,
};
use super::reader::{LineReader, ReadError};
use crate::{ChainChecker, ChainProof, Checkpoint, GENESIS, KeyRing, VERSION};

/// What an export that holds contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The chain.
    pub chain: String,
    /// The first event.
    pub from: i64,
    /// The last event.
    pub to: i64,
    /// How many events' details were erased: those still prove that something happened, and when.
    pub erased: u64,
    /// How many signed checkpoints the events were compared with.
    pub checkpoints: u64,
    /// The newest of them. It covers every event; what happened after it, the file does not say.
    pub newest: Checkpoint,
}

/// Verifies the export that `source` gives.
///
/// # Errors
/// At the first thing that does not hold; see [`VerifyError`].
pub fn verify(
    source: impl BufRead,
    keys: &KeyRing,
    kept: &[ChainProof],
) -> Result<Report, VerifyError> {
    verify_against(source, keys, &Keepsake { proofs: kept.to_vec(), ..Keepsake::default() })
}

/// Verifies the export that `source` gives, and compares it with everything that was kept.
///
/// # Errors
/// At the first thing that does not hold; see [`VerifyError`].
pub fn verify_against(
    source: impl BufRead,
    keys: &KeyRing,
    kept: &Keepsake,
) -> Result<Report, VerifyError> {
    let mut reader = LineReader::new(source);
    let mut seq = None;
    run(&mut reader, &mut seq, keys, kept).map_err(|problem| {
        let seq = problem.seq().or(seq);
        VerifyError { line: reader.number(), seq, problem }
    })
}

/// Leaves in `next` the number of the event that should come next.
fn run<R: BufRead>(
    reader: &mut LineReader<R>,
    next: &mut Option<i64>,
    keys: &KeyRing,
    kept: &Keepsake,
) -> Result<Report, Problem> {
    let mut scratch = Vec::new();
    let manifest = read_manifest(reader, &mut scratch)?;
    *next = Some(manifest.from);
    let kept = Kept::new(kept, keys, &manifest.chain, manifest.from)?;
    kept.event(manifest.from - 1, &manifest.previous)?;
    let mut pass = Pass::new(manifest, keys, kept);
    while advance(reader, pass.last_seq())? {
        match Line::parse(reader.line(), &mut scratch)? {
            Line::Event(line) => pass.event(&line)?,
            Line::Checkpoint(line) => pass.checkpoint(&line.checkpoint)?,
            Line::Manifest => return Err(Problem::Misplaced),
            Line::BrokenOff(why) => {
                return Err(Problem::BrokenOff { after: pass.last_seq(), why });
            }
            Line::End(end) => return finish(reader, pass, &end),
        }
        *next = Some(pass.last_seq() + 1);
    }
    Err(Problem::CutOff { after: pass.last_seq() })
}

fn read_manifest<R: BufRead>(
    reader: &mut LineReader<R>,
    scratch: &mut Vec<u8>,
) -> Result<Manifest, Problem> {
    match reader.advance() {
        Ok(true) => {}
        Err(ReadError::Io(error)) => return Err(Problem::Read(error)),
        Ok(false) | Err(ReadError::TooLong | ReadError::CutOff) => {
            return Err(Problem::NotAnExport);
        }
    }
    let any: AnyManifestLine =
        serde_json::from_slice(reader.line()).map_err(|_| Problem::NotAnExport)?;
    let AnyManifestLine { manifest: any } = any;
    if any.format != FORMAT {
        return Err(Problem::NotAnExport);
    }
    if any.version != VERSION {
        return Err(Problem::UnknownVersion { found: any.version, known: VERSION });
    }
    let ManifestLine { manifest } = canonical(reader.line(), scratch)?;
    check_manifest(&manifest).map_err(Problem::Manifest)?;
    Ok(manifest)
}

fn check_manifest(manifest: &Manifest) -> Result<(), &'static str> {
    let Manifest { from, to, count, previous, .. } = manifest;
    let fits = |next: i64| to.checked_add(1) == Some(next);
    if *from < 1 || *count < 0 || !from.checked_add(*count).is_some_and(fits) {
        return Err("first event, last event and count contradict each other");
    }
    if *from == 1 && *previous != GENESIS {
        return Err("nothing comes before the first event of a chain");
    }
    Ok(())
}

fn advance<R: BufRead>(reader: &mut LineReader<R>, after: i64) -> Result<bool, Problem> {
    reader.advance().map_err(|error| match error {
        ReadError::Io(error) => Problem::Read(error),
        ReadError::TooLong => Problem::LineTooLong,
        ReadError::CutOff => Problem::CutOff { after },
    })
}

fn finish<R: BufRead>(
    reader: &mut LineReader<R>,
    pass: Pass<'_>,
    end: &End,
) -> Result<Report, Problem> {
    let report = pass.finish()?;
    if (end.lines, end.sha256) != reader.before() {
        return Err(Problem::WrongEnd);
    }
    match advance(reader, report.to) {
        Ok(false) => Ok(report),
        Err(Problem::Read(error)) => Err(Problem::Read(error)),
        _ => Err(Problem::Misplaced),
    }
}

/// What is known after each line.
struct Pass<'a> {
    manifest: Manifest,
    keys: &'a KeyRing,
    kept: Kept<'a>,
    chain: ChainChecker,
    erased: u64,
    checkpoints: u64,
    newest: Option<Checkpoint>,
    /// How far the newest checkpoint covers.
    sealed: i64,
}

impl<'a> Pass<'a> {
    fn new(manifest: Manifest, keys: &'a KeyRing, kept: Kept<'a>) -> Self {
        let sealed = manifest.from - 1;
        let chain = ChainChecker::after(&manifest.chain, sealed, manifest.previous);
        Self { manifest, keys, kept, chain, erased: 0, checkpoints: 0, newest: None, sealed }
    }

    fn last_seq(&self) -> i64 {
        self.chain.head().0
    }

    fn event(&mut self, line: &EventLine) -> Result<(), Problem> {
        if self.last_seq() == self.manifest.to {
            return Err(Problem::Manifest("there are more events than it says"));
        }
        self.chain.push(&line.event, &line.hash)?;
        self.erased += u64::from(line.event.detail.is_none());
        self.kept.event(line.event.seq, &line.hash)
    }

    fn checkpoint(&mut self, proof: &ChainProof) -> Result<(), Problem> {
        let (from, size) = (self.sealed + 1, proof.size);
        if proof.chain != self.manifest.chain {
            return Err(Problem::OtherChain);
        }
        let checkpoint =
            proof.verify(self.keys).map_err(|why| Problem::Checkpoint { from, size, why })?;
        let (after, head) = self.chain.head();
        if size != after {
            return Err(Problem::CheckpointPlace { size, after });
        }
        if proof.head != head {
            return Err(Problem::Contradiction { from, size });
        }
        self.kept.checkpoint(&checkpoint)?;
        if let Some(before) = &self.newest {
            check_order(before, &checkpoint).map_err(Problem::CheckpointOrder)?;
        }
        self.checkpoints += 1;
        self.newest = Some(checkpoint);
        self.sealed = size;
        Ok(())
    }

    fn finish(self) -> Result<Report, Problem> {
        let last = self.last_seq();
        let Manifest { chain, from, to, .. } = self.manifest;
        if last != to {
            return Err(Problem::Missing { from: last + 1, to });
        }
        self.kept.end(to)?;
        let (erased, checkpoints) = (self.erased, self.checkpoints);
        match self.newest {
            Some(newest) if self.sealed == to => {
                Ok(Report { chain, from, to, erased, checkpoints, newest })
            }
            _ => Err(Problem::Unsealed { from: self.sealed + 1, to }),
        }
    }
}

fn check_order(before: &Checkpoint, after: &Checkpoint) -> Result<(), &'static str> {
    if after.origin != before.origin {
        return Err("they are of different installations");
    }
    if after.number <= before.number {
        return Err("their numbers do not rise");
    }
    if after.number == before.number + 1 && after.previous != before.digest() {
        return Err("one names another as the one before it");
    }
    Ok(())
}

impl From<LineError> for Problem {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Unknown => Self::Malformed("it is neither event, checkpoint nor end".into()),
            LineError::Json(error) => {
                // Its line is always 1, and that of the file is said anyway.
                Self::Malformed(error.to_string().replace(" at line 1 column", " at column"))
            }
            LineError::NotCanonical => Self::NotCanonical,
        }
    }
}
