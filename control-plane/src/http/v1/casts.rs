//! `/v1/execs/{id}/cast`: what a terminal showed, to be played again.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::ids::ExecId;
use futures::stream;

use crate::app::{App, AppError, Caller};
use crate::http::ApiError;
use crate::http::json::Id;

/// Streams the recording of an exec's terminal (asciicast v2), as far as its output has arrived.
#[utoipa::path(
    get, path = "/execs/{id}/cast", operation_id = "get_exec_cast", tag = "execs",
    security(("token" = ["read_work"])),
    params(("id" = ExecId, Path)),
    responses((status = 200, body = String, content_type = "application/x-asciicast")),
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ExecId>,
) -> Result<Response, ApiError> {
    let cast = app.record_terminal(&caller, id).await?;
    // An error breaks the download off, visibly.
    let pieces = stream::try_unfold(Some(cast), |cast| async move {
        let Some(cast) = cast else { return Ok::<_, AppError>(None) };
        let (lines, rest) = cast.next().await?;
        Ok(Some((Bytes::from(lines), rest)))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-asciicast".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.cast\"")),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}
