//! `bulkhead audit verify`: needs the file, the public key and, if there is one, a checkpoint that
//! was kept from earlier. Talks to nobody.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use audit::KeyRing;
use audit::export::{Keepsake, Report, VerifyError, read_kept, verify_against};
use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::console;

/// Longest file of public keys, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 1024 * 1024;
/// The log does not hold.
const BROKEN: u8 = 1;

/// What is verified, against what.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The exported log.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The public key, or the file that has it (audit.pub).
    #[arg(long, value_name = "PUBKEY")]
    key: String,
    /// Checkpoints kept from earlier, which the log must agree with: those of `audit checkpoint`, or
    /// the file that the control plane writes (checkpoints.jsonl).
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

/// Verifies; the exit code says whether all of it holds.
pub(super) fn run(arguments: &Arguments, json: bool) -> Result<u8> {
    let keys = read_keys(&arguments.key)?;
    let kept = match &arguments.checkpoint {
        Some(path) => read_kept(open(path)?)
            .with_context(|| format!("{} is no file of checkpoints", path.display()))?,
        None => Keepsake::default(),
    };
    let outcome = verify_against(open(&arguments.from)?, &keys, &kept);
    if json {
        console::print_json(&outcome.as_ref().map_or_else(broken, holds))?;
    } else {
        match &outcome {
            Ok(report) => console::print(sentence(report, arguments.checkpoint.is_some()))?,
            // It may quote the file, which anybody may have written.
            Err(error) => console::say(console::printable(&complaint(error))),
        }
    }
    Ok(if outcome.is_ok() { 0 } else { BROKEN })
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

fn read_keys(key: &str) -> Result<KeyRing> {
    use std::io::Read as _;
    let path = Path::new(key);
    // A key as such has two '+', which a path may have too; so the file is looked for first.
    if !path.exists() && key.matches('+').count() >= 2 {
        return KeyRing::parse(key).context("--key is no public key");
    }
    let mut text = String::new();
    let read = open(path)?.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text);
    read.with_context(|| format!("cannot read {}", path.display()))?;
    KeyRing::parse(&text).with_context(|| format!("{} has no public key", path.display()))
}

fn sentence(report: &Report, was_compared: bool) -> String {
    let Report { chain, from, to, erased, checkpoints, newest } = report;
    let time = time_of(newest.time_us);
    let mut text = format!(
        "the log holds: chain {chain}, events {from} to {to}, compared with {checkpoints} signed \
         checkpoints, the newest of {time}"
    );
    if *erased > 0 {
        text += &format!("; the details of {erased} events were erased");
    }
    text += match was_compared {
        false => "; no kept checkpoint was given, so it may be older than what you saw before",
        true => "; it agrees with what you kept",
    };
    text
}

fn complaint(error: &VerifyError) -> String {
    match error.seq {
        Some(seq) => format!("the log does not hold; first bad event: {seq}; {error}"),
        None => format!("the log does not hold; {error}"),
    }
}

fn holds(report: &Report) -> Value {
    let newest = &report.newest;
    json!({
        "ok": true, "chain": report.chain, "from": report.from, "to": report.to,
        "erased": report.erased, "checkpoints": report.checkpoints,
        "newest_checkpoint": { "number": newest.number, "time": time_of(newest.time_us) },
    })
}

fn broken(error: &VerifyError) -> Value {
    let problem = error.problem.to_string();
    json!({ "ok": false, "first_bad_seq": error.seq, "line": error.line, "problem": problem })
}

fn time_of(time_us: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_us) * 1000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "an impossible time".into())
}
