//! `/v1/audit/checkpoints`: signed checkpoints, each with the proof that the tenant's chain is in it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, AppError, Caller};
use crate::http::ApiError;
use crate::http::json::Params;
use crate::http::page::{Page, checked_limit};
use crate::store::StoredProof;

/// Query string of `GET /v1/audit/checkpoints`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    cursor: Option<i64>,
    limit: Option<i64>,
}

/// A checkpoint as callers see it. `checkpoint` is what an auditor keeps, see docs/audit.md.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditCheckpoint)]
pub struct View {
    number: i64,
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    size: i64,
    checkpoint: audit::ChainProof,
}

impl From<StoredProof> for View {
    fn from(stored: StoredProof) -> Self {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(stored.time_us) * 1000);
        Self {
            number: stored.number,
            time: time.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            size: stored.proof.size,
            checkpoint: stored.proof,
        }
    }
}

/// Lists checkpoints, newest first.
#[utoipa::path(
    get, path = "/audit/checkpoints", operation_id = "list_audit_checkpoints", tag = "audit",
    security(("token" = ["read_chain"])),
    params(ListParams),
    responses((status = 200, body = Page<View>)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<View>>, ApiError> {
    let limit = checked_limit(params.limit)?;
    let mut scope = caller.open_audit(&app).await?;
    let proofs = scope.list_proofs(params.cursor, limit).await.map_err(AppError::from)?;
    let views = proofs.into_iter().map(View::from).collect();
    Ok(Json(Page::new(views, limit, |view: &View| view.number.to_string())))
}

/// Makes a checkpoint now.
#[utoipa::path(
    post, path = "/audit/checkpoints", operation_id = "create_audit_checkpoint", tag = "audit",
    security(("token" = ["read_chain"])),
    responses((status = 201, body = View)),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
) -> Result<(StatusCode, Json<View>), ApiError> {
    Ok((StatusCode::CREATED, Json(app.checkpoint_audit(&caller).await?.into())))
}
