//! `bulkhead audit export` and `checkpoint`: what an auditor takes away.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use audit::ChainProof;
use audit::export::{BrokenOff, checkpoint_line};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::json;

use super::look_up::Filter;
use crate::client::Client;
use crate::console;

/// Bytes at the end of an export in which the reason for its breaking off is looked for.
const REASON_BYTES: usize = 16 * 1024;

/// What, and where to.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The file; it appears once it is complete.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Only JSONL can be verified.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// The first event.
    #[arg(long, value_name = "NUMBER")]
    from: Option<u64>,
    #[command(flatten)]
    filter: Filter,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Whole, with manifest and signed checkpoints.
    Jsonl,
    /// For spreadsheets.
    Csv,
    /// For security tools.
    Ocsf,
}

/// Where to.
#[derive(Debug, Args)]
pub(super) struct CheckpointArguments {
    /// The file to append it to; stdout if left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes an export.
pub(super) async fn run(client: &Client, arguments: &Arguments) -> Result<()> {
    let format = match arguments.format {
        Format::Jsonl => "jsonl",
        Format::Csv => "csv",
        Format::Ocsf => "ocsf",
    };
    let mut path = format!("/v1/audit/export?format={format}{}", arguments.filter.query());
    if let Some(from) = arguments.from {
        path += &format!("&from={from}");
    }
    let part = beside(&arguments.out);
    let outcome = download(client, &path, &part).await;
    if outcome.is_err() {
        // Half an export is worth nothing, and looks like a whole one from afar.
        let _ = fs::remove_file(&part);
    }
    let bytes = outcome?;
    fs::rename(&part, &arguments.out)
        .with_context(|| format!("cannot write {}", arguments.out.display()))?;
    console::say(format_args!("{bytes} bytes in {}", arguments.out.display()));
    Ok(())
}

async fn download(client: &Client, path: &str, part: &Path) -> Result<u64> {
    let mut file =
        File::create(part).with_context(|| format!("cannot write {}", part.display()))?;
    let mut download = client.download(path).await?;
    let (mut total, mut end) = (0, Vec::new());
    loop {
        let piece = match download.next().await {
            Ok(Some(piece)) => Some(piece),
            Ok(None) => None,
            Err(error) if BrokenOff::at_end(&end).is_none() => return Err(error.into()),
            Err(_) => None,
        };
        let Some(piece) = piece else { break };
        file.write_all(&piece).with_context(|| format!("cannot write {}", part.display()))?;
        total += piece.len() as u64;
        end.extend(piece);
        end.drain(..end.len().saturating_sub(REASON_BYTES));
    }
    // Behind something that mends connections, it may look like an end.
    if let Some(why) = BrokenOff::at_end(&end) {
        bail!("the server broke the export off: {why}");
    }
    file.sync_all().with_context(|| format!("cannot write {}", part.display()))?;
    Ok(total)
}

fn beside(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    out.with_file_name(name)
}

#[derive(Deserialize)]
struct Made {
    checkpoint: ChainProof,
}

/// Has a checkpoint made, and keeps or prints it.
pub(super) async fn checkpoint(client: &Client, arguments: &CheckpointArguments) -> Result<()> {
    let made: Made = client.post("/v1/audit/checkpoints", &json!({})).await?;
    let line = checkpoint_line(&made.checkpoint);
    let Some(out) = &arguments.out else {
        return Ok(console::print(line.trim_end())?);
    };
    let failed = || format!("cannot write {}", out.display());
    let mut file = File::options().append(true).create(true).open(out).with_context(failed)?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)
}
