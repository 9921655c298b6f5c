//! `/v1/sessions/{id}/files`: byte streams in and out of a workspace, and what is in it.

mod views;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::ids::SessionId;
use futures::{StreamExt, TryStreamExt};
use protocol::files::{
    FileReply, FileRequest, MAX_ARCHIVE_BYTES, MAX_ARCHIVE_ENTRIES, MAX_FILE_BYTES,
    MAX_LIST_ENTRIES,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, AppError, Caller};
use crate::calls::Pieces;
use crate::http::ApiError;
use crate::http::json::{Id, Params};
use crate::http::openapi::Raw;
use views::{Deleted, Folder, Known, Written, deleted, folder, written};

/// What a request is about.
#[derive(Deserialize, Clone, Copy, Default, PartialEq, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The bytes of a file, or the entries of a folder.
    #[default]
    Content,
    /// A folder: `PUT` makes it.
    Directory,
    /// A folder as a tar archive.
    Tar,
    /// What is known of the entry.
    Stat,
}

/// Query string for one path.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PathParams {
    #[serde(default)]
    #[param(inline)]
    kind: Kind,
    /// Permissions of a new file, in octal digits.
    mode: Option<String>,
    #[serde(default)]
    recursive: bool,
}

/// Query string for a folder that is named there.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FolderParams {
    #[serde(default)]
    path: String,
    #[serde(default)]
    #[param(inline)]
    kind: Kind,
    after: Option<String>,
    limit: Option<u32>,
}

/// A session and a path below its workspace.
pub struct Target {
    session_id: SessionId,
    path: String,
}

impl axum::extract::FromRequestParts<App> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        app: &App,
    ) -> Result<Self, ApiError> {
        let Path((id, path)) =
            Path::<(String, String)>::from_request_parts(parts, app).await.map_err(|_| {
                let detail = "the path is not valid UTF-8";
                ApiError::new(StatusCode::BAD_REQUEST, "invalid_path", detail)
            })?;
        let session_id = id.parse().map_err(|_| ApiError::not_found("session"))?;
        Ok(Self { session_id, path })
    }
}

/// Writes a file, makes a folder, or unpacks an archive into one.
#[utoipa::path(
    put, path = "/sessions/{id}/files/{*path}", operation_id = "put_file", tag = "files",
    security(("token" = ["work"])),
    params(("id" = SessionId, Path), ("path" = String, Path), PathParams),
    request_body(content = Raw, content_type = "application/octet-stream"),
    responses((status = 200, body = Written), (status = 201, body = Written)),
)]
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    target: Target,
    Params(params): Params<PathParams>,
    request: Request,
) -> Result<(StatusCode, Json<Written>), ApiError> {
    let Target { session_id, path } = target;
    if params.recursive || (params.mode.is_some() && params.kind != Kind::Content) {
        return Err(unfit_parameter());
    }
    let work = match params.kind {
        Kind::Content => {
            check_length(request.headers(), MAX_FILE_BYTES)?;
            let mode = params.mode.as_deref().map(octal).transpose()?;
            FileRequest::Put { path: path.clone(), max_bytes: MAX_FILE_BYTES, mode }
        }
        Kind::Tar => {
            check_length(request.headers(), MAX_ARCHIVE_BYTES)?;
            unpack(path.clone())
        }
        Kind::Directory if has_body(&request) => {
            let detail = "a folder is made of nothing: leave the body out";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "unexpected_body", detail));
        }
        Kind::Directory => FileRequest::Mkdir { path: path.clone() },
        Kind::Stat => return Err(wrong_kind()),
    };
    let body = (params.kind != Kind::Directory).then(|| pieces(request));
    let (reply, _) = app.work_on_files(&caller, session_id, work, body).await?;
    written(path, reply)
}

/// Unpacks an archive into the workspace itself.
#[utoipa::path(
    put, path = "/sessions/{id}/files", operation_id = "put_workspace", tag = "files",
    security(("token" = ["work"])),
    params(("id" = SessionId, Path), FolderParams),
    request_body(content = Raw, content_type = "application/x-tar"),
    responses((status = 200, body = Written), (status = 201, body = Written)),
)]
pub async fn put_root(
    State(app): State<App>,
    caller: Caller,
    Id(session_id): Id<SessionId>,
    Params(params): Params<FolderParams>,
    request: Request,
) -> Result<(StatusCode, Json<Written>), ApiError> {
    if params.kind != Kind::Tar {
        return Err(wrong_kind());
    }
    if params.after.is_some() || params.limit.is_some() {
        return Err(unfit_parameter());
    }
    check_length(request.headers(), MAX_ARCHIVE_BYTES)?;
    let work = unpack(params.path.clone());
    let (reply, _) = app.work_on_files(&caller, session_id, work, Some(pieces(request))).await?;
    written(params.path, reply)
}

/// Gives a file's bytes, a folder as an archive, or what is known of either.
#[utoipa::path(
    get, path = "/sessions/{id}/files/{*path}", operation_id = "get_file", tag = "files",
    security(("token" = ["read_work"])),
    params(("id" = SessionId, Path), ("path" = String, Path), PathParams),
    responses((status = 200, content((Raw = "application/octet-stream"), (Raw = "application/x-tar"), (Known = "application/json")))),
)]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    target: Target,
    Params(params): Params<PathParams>,
) -> Result<Response, ApiError> {
    let Target { session_id, path } = target;
    if params.mode.is_some() || params.recursive {
        return Err(unfit_parameter());
    }
    let work = match params.kind {
        Kind::Content => FileRequest::Get { path: path.clone(), max_bytes: MAX_FILE_BYTES },
        Kind::Tar => pack(path.clone()),
        Kind::Stat => FileRequest::Stat { path: path.clone() },
        Kind::Directory => return Err(wrong_kind()),
    };
    let (reply, rest) = app.work_on_files(&caller, session_id, work, None).await?;
    answer(path, reply, rest)
}

/// Lists a folder, page by page, or gives it as an archive.
#[utoipa::path(
    get, path = "/sessions/{id}/files", operation_id = "list_files", tag = "files",
    security(("token" = ["read_work"])),
    params(("id" = SessionId, Path), FolderParams),
    responses((status = 200, content((Folder = "application/json"), (Raw = "application/x-tar")))),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Id(session_id): Id<SessionId>,
    Params(params): Params<FolderParams>,
) -> Result<Response, ApiError> {
    let path = params.path;
    let limit = params.limit.unwrap_or(MAX_LIST_ENTRIES);
    if !(1..=MAX_LIST_ENTRIES).contains(&limit) {
        let detail = format!("limit must be between 1 and {MAX_LIST_ENTRIES}");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_limit", detail));
    }
    let work = match params.kind {
        Kind::Content => FileRequest::List { path: path.clone(), after: params.after, limit },
        Kind::Tar => pack(path.clone()),
        Kind::Stat => FileRequest::Stat { path: path.clone() },
        Kind::Directory => return Err(wrong_kind()),
    };
    let (reply, rest) = app.work_on_files(&caller, session_id, work, None).await?;
    answer(path, reply, rest)
}

/// Deletes a file, a link or a folder.
#[utoipa::path(
    delete, path = "/sessions/{id}/files/{*path}", operation_id = "delete_file", tag = "files",
    security(("token" = ["work"])),
    params(("id" = SessionId, Path), ("path" = String, Path), PathParams),
    responses((status = 200, body = Deleted)),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    target: Target,
    Params(params): Params<PathParams>,
) -> Result<Json<Deleted>, ApiError> {
    let Target { session_id, path } = target;
    if params.kind != Kind::Content {
        return Err(wrong_kind());
    }
    if params.mode.is_some() {
        return Err(unfit_parameter());
    }
    let work = FileRequest::Delete { path: path.clone(), recursive: params.recursive };
    let (reply, _) = app.work_on_files(&caller, session_id, work, None).await?;
    deleted(path, reply)
}

fn unpack(path: String) -> FileRequest {
    let (max_bytes, max_entries) = (MAX_ARCHIVE_BYTES, MAX_ARCHIVE_ENTRIES);
    FileRequest::PutArchive { path, max_bytes, max_entries }
}

fn pack(path: String) -> FileRequest {
    let (max_bytes, max_entries) = (MAX_ARCHIVE_BYTES, MAX_ARCHIVE_ENTRIES);
    FileRequest::GetArchive { path, max_bytes, max_entries }
}

/// What a tenant wrote is never shown by a browser as a page of ours.
fn answer(path: String, reply: FileReply, rest: Pieces) -> Result<Response, ApiError> {
    let mut headers = HeaderMap::new();
    let attachment = header::HeaderValue::from_static("attachment");
    match reply {
        FileReply::Get { bytes, sha256, modified_at_ms } => {
            let text = |value: String| header::HeaderValue::from_str(&value).ok();
            let known = [
                (header::CONTENT_LENGTH, text(bytes.to_string())),
                (header::HeaderName::from_static("x-content-sha256"), text(sha256)),
                (
                    header::HeaderName::from_static("x-modified-at-ms"),
                    text(modified_at_ms.to_string()),
                ),
            ];
            headers.extend(known.into_iter().filter_map(|(name, value)| Some((name, value?))));
            let octets = header::HeaderValue::from_static("application/octet-stream");
            headers.insert(header::CONTENT_TYPE, octets);
        }
        FileReply::GetArchive { .. } => {
            let tar = header::HeaderValue::from_static("application/x-tar");
            headers.insert(header::CONTENT_TYPE, tar);
        }
        other => return Ok(Json(folder(path, other)?).into_response()),
    }
    headers.insert(header::CONTENT_DISPOSITION, attachment);
    let policy = header::HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok((headers, Body::from_stream(rest)).into_response())
}

/// The client's body as it comes. Whoever breaks off leaves an error, not an end.
fn pieces(request: Request) -> Pieces {
    request.into_body().into_data_stream().map_err(std::io::Error::other).boxed()
}

fn check_length(headers: &HeaderMap, limit: u64) -> Result<(), ApiError> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length: Option<u64> = length.and_then(|value| value.parse().ok());
    match length {
        Some(length) if length > limit => {
            let detail = format!("the body has {length} bytes; the limit is {limit}");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", detail))
        }
        _ => Ok(()),
    }
}

/// Whether a body comes, as far as its headers tell.
fn has_body(request: &Request) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length != "0")
        || request.headers().contains_key(header::TRANSFER_ENCODING)
}

fn octal(text: &str) -> Result<u32, ApiError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text);
    let mode = digits.and_then(|text| u32::from_str_radix(text, 8).ok());
    mode.filter(|mode| *mode <= 0o777).ok_or_else(|| {
        let detail = "mode must be three octal digits, such as 644";
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_mode", detail)
    })
}

fn unfit_parameter() -> ApiError {
    let detail = "a query parameter does not fit this method or kind: see docs/api.md, files";
    ApiError::from(AppError::invalid("invalid_query", detail))
}

fn wrong_kind() -> ApiError {
    let detail = "this kind does not fit this method: see docs/api.md, files";
    ApiError::from(AppError::invalid("invalid_kind", detail))
}
