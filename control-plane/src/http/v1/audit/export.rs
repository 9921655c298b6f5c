//! `GET /v1/audit/export`: the log as a file, streamed. As JSONL it is whole and proves itself; as
//! CSV or OCSF it may be a part, and proves nothing.

use std::io;
use std::time::Duration;

use audit::VERSION;
use audit::export::{BrokenOff, ExportWriter, FORMAT, Manifest};
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::filter::{Format, LookUp, refused};
use super::view::View;
use super::{csv, ocsf};
use crate::app::{App, AppError, Batch, Caller, Export};
use crate::http::ApiError;
use crate::http::json::Params;
use crate::store::StoredProof;

/// Streams an export.
#[utoipa::path(
    get, path = "/audit/export", operation_id = "export_audit", tag = "audit",
    security(("token" = ["read_chain"])),
    params(LookUp),
    responses((
        status = 200,
        content((String = "application/jsonl"), (String = "text/csv")),
    )),
)]
pub async fn export(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<LookUp>,
) -> Result<Response, ApiError> {
    let (format, from) = params.export()?;
    if format == Format::Jsonl && params.is_filtered() {
        return Err(refused(
            "a JSONL export is whole, or it would prove nothing; filter CSV or OCSF",
        ));
    }
    let detail = serde_json::to_value(&params).map_err(AppError::internal)?;
    let export = app.export_audit(&caller, from, params.filter()?, detail).await?;
    let (kind, name) = match format {
        Format::Jsonl => ("application/jsonl", "audit.jsonl"),
        Format::Csv => ("text/csv; charset=utf-8", "audit.csv"),
        Format::Ocsf => ("application/jsonl", "audit.ocsf.jsonl"),
    };
    // What is wrong with the beginning is said in the answer.
    let (first, rest) = Writing::begin(format, export).await?.advance().await?;
    let rest = stream::unfold(Stage::of(rest), Stage::advance);
    let pieces = stream::once(async { Ok(first) }).chain(rest);
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers =
        [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, disposition.as_str())];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// How long a client has to take the reason before the connection breaks.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How far the sending is.
enum Stage {
    Writing(Box<Writing>),
    /// The reason was sent, and what is sent now ends as a broken connection.
    BrokenOff,
    Over,
}

impl Stage {
    fn of(writing: Option<Writing>) -> Self {
        writing.map_or(Self::Over, |writing| Self::Writing(Box::new(writing)))
    }

    async fn advance(self) -> Option<(io::Result<Bytes>, Self)> {
        match self {
            Self::Writing(writing) => {
                let is_json_lines = writing.form.is_json_lines();
                match writing.advance().await {
                    Ok((piece, rest)) => Some((Ok(piece), Self::of(rest))),
                    Err(error) => {
                        let error = ApiError::from(error);
                        let (code, message) = error.told();
                        let why = BrokenOff { code: code.into(), message: message.into() };
                        // A line more in a table would be taken for an event.
                        let line = if is_json_lines { why.to_line() } else { String::new() };
                        Some((Ok(line.into()), Self::BrokenOff))
                    }
                }
            }
            Self::BrokenOff => {
                // What was sent goes out while nothing follows it; nobody says when it is out, and
                // the connection breaks with what is not.
                tokio::time::sleep(LAST_WORDS).await;
                Some((Err(io::Error::other("the export was broken off")), Self::Over))
            }
            Self::Over => None,
        }
    }
}

/// An export under way, with what is written of it and not yet sent.
struct Writing {
    export: Export,
    form: Form,
}

enum Form {
    Jsonl(ExportWriter<Vec<u8>>),
    Lines { begun: Vec<u8>, line: fn(&View) -> String, is_json: bool },
}

impl Form {
    /// Whether each line is a JSON object.
    fn is_json_lines(&self) -> bool {
        matches!(self, Self::Jsonl(_) | Self::Lines { is_json: true, .. })
    }
}

impl Writing {
    async fn begin(format: Format, export: Export) -> Result<Self, AppError> {
        let form = match format {
            Format::Jsonl => {
                let manifest = manifest(&export).await?;
                Form::Jsonl(ExportWriter::new(Vec::new(), manifest).map_err(AppError::internal)?)
            }
            Format::Csv => {
                Form::Lines { begun: csv::HEADER.into(), line: csv::line, is_json: false }
            }
            Format::Ocsf => Form::Lines { begun: Vec::new(), line: ocsf::line, is_json: true },
        };
        Ok(Self { export, form })
    }

    /// The next piece, and how to go on; an error breaks the download off, visibly.
    async fn advance(mut self) -> Result<(Bytes, Option<Self>), AppError> {
        let Some(batch) = self.export.next().await? else {
            let rest = match self.form {
                Form::Jsonl(writer) => writer.finish().map_err(AppError::internal)?,
                Form::Lines { begun, .. } => begun,
            };
            return Ok((rest.into(), None));
        };
        let piece = match &mut self.form {
            Form::Jsonl(writer) => {
                write(writer, batch).map_err(AppError::internal)?;
                std::mem::take(writer.sink_mut())
            }
            Form::Lines { begun, line, .. } => {
                let views = batch.records.into_iter().map(View::from);
                views.for_each(|view| begun.extend(line(&view).bytes()));
                std::mem::take(begun)
            }
        };
        Ok((piece.into(), Some(self)))
    }
}

/// Events with each proof directly after the last one that it covers.
fn write(writer: &mut ExportWriter<Vec<u8>>, batch: Batch) -> io::Result<()> {
    for record in batch.records {
        writer.event(&record.event, &record.hash)?;
        let covers = |stored: &&StoredProof| stored.proof.size == record.event.seq;
        for stored in batch.proofs.iter().filter(covers) {
            writer.checkpoint(&stored.proof)?;
        }
    }
    Ok(())
}

async fn manifest(export: &Export) -> Result<Manifest, AppError> {
    let (from, to) = (export.from, export.last.proof.size);
    Ok(Manifest {
        format: FORMAT.into(),
        version: VERSION,
        chain: export.last.proof.chain.clone(),
        from,
        to,
        count: to + 1 - from,
        previous: export.previous().await?,
        created_us: export.last.time_us,
        keys: export.public_keys(),
    })
}
