//! What is answered about files: the executor's reply with the path as the request had it.

use axum::Json;
use axum::http::StatusCode;
use protocol::files::{FileEntry, FileReply};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::ApiError;

/// What was written. What does not belong to its kind is left out.
#[derive(Serialize, ToSchema)]
#[schema(as = WrittenFile)]
pub struct Written {
    path: String,
    /// Of a file or an archive: its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// Of a file or an archive: SHA-256 of its bytes, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Of a file or a folder: whether there was none before.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<bool>,
    /// Of an archive: its entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
}

/// What was deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = DeletedFile)]
pub struct Deleted {
    path: String,
    /// How many entries.
    entries: u64,
}

/// What is known of an entry.
#[derive(Serialize, ToSchema)]
#[schema(as = KnownFile)]
pub struct Known {
    path: String,
    entry: FileEntry,
}

/// A page of a folder.
#[derive(Serialize, ToSchema)]
#[schema(as = ListedFolder)]
pub struct Listed {
    path: String,
    /// Sorted by the bytes of their names.
    entries: Vec<FileEntry>,
    /// Whether there are more.
    more: bool,
}

/// A folder's entries, or what is known of it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Folder)]
pub enum Folder {
    /// Its entries.
    Listed(Listed),
    /// What is known of it.
    Known(Known),
}

/// The answer to a `PUT`.
///
/// # Errors
/// When the executor replied to something else.
pub(super) fn written(
    path: String,
    reply: FileReply,
) -> Result<(StatusCode, Json<Written>), ApiError> {
    let nothing = Written { path, bytes: None, sha256: None, created: None, entries: None };
    let written = match reply {
        FileReply::Put { bytes, sha256, created } => {
            Written { bytes: Some(bytes), sha256: Some(sha256), created: Some(created), ..nothing }
        }
        FileReply::Mkdir { created } => Written { created: Some(created), ..nothing },
        FileReply::PutArchive { entries, bytes, sha256 } => {
            Written { bytes: Some(bytes), sha256: Some(sha256), entries: Some(entries), ..nothing }
        }
        _ => return Err(ApiError::internal()),
    };
    let is_new = written.created == Some(true);
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(written)))
}

/// The answer to a `DELETE`.
///
/// # Errors
/// When the executor replied to something else.
pub(super) fn deleted(path: String, reply: FileReply) -> Result<Json<Deleted>, ApiError> {
    match reply {
        FileReply::Delete { entries } => Ok(Json(Deleted { path, entries })),
        _ => Err(ApiError::internal()),
    }
}

/// The answer to a `GET` that gives no bytes.
///
/// # Errors
/// When the executor replied to something else.
pub(super) fn folder(path: String, reply: FileReply) -> Result<Folder, ApiError> {
    match reply {
        FileReply::List { entries, more } => Ok(Folder::Listed(Listed { path, entries, more })),
        FileReply::Stat { entry } => Ok(Folder::Known(Known { path, entry })),
        _ => Err(ApiError::internal()),
    }
}
