//! `/v1/audit`: the audit log of the caller's tenant, or the platform's own; to look things up, to
//! export it with its proof, to review.

pub mod checkpoints;
mod csv;
pub mod erasures;
pub mod evidence;
pub mod export;
pub mod figures;
mod filter;
mod ocsf;
pub mod queue;
pub mod retention;
pub mod reviews;
pub mod sampling;
mod view;

use axum::Json;
use axum::extract::State;

use crate::app::{App, AppError, Caller};
use crate::http::ApiError;
use crate::http::json::Params;
use crate::http::page::Page;
use filter::LookUp;
use view::View;

/// Lists audit events, oldest first.
#[utoipa::path(
    get, path = "/audit/events", operation_id = "list_audit_events", tag = "audit",
    security(("token" = ["read_chain"])),
    params(LookUp),
    responses((status = 200, body = Page<View>)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<LookUp>,
) -> Result<Json<Page<View>>, ApiError> {
    let (after, limit) = params.page()?;
    let filter = params.filter()?;
    let mut scope = caller.open_audit(&app).await?;
    let records = scope.list_audit(&filter, after, limit).await.map_err(AppError::from)?;
    let views = records.into_iter().map(View::from).collect();
    Ok(Json(Page::new(views, limit, |view: &View| view.seq.to_string())))
}
