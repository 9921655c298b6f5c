//! `/v1/audit/reviews`: what reviewers think of audit events.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::access::Operation;
use domain::ids::ReviewId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, AppError, Caller, CreateReview};
use crate::http::ApiError;
use crate::http::json::{Body, Params};
use crate::http::page::{Page, checked_cursor, checked_limit};
use crate::store::Review;

/// Query string of `GET /v1/audit/reviews`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    seq: Option<i64>,
    cursor: Option<String>,
    limit: Option<i64>,
}

/// Body of `POST /v1/audit/reviews`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateAuditReview)]
pub struct Create {
    seq: i64,
    verdict: Verdict,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize, Clone, Copy, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReviewVerdict)]
enum Verdict {
    Ok,
    Violation,
    NeedsRule,
}

/// A review as callers see it.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditReview)]
pub struct View {
    review_id: ReviewId,
    seq: i64,
    verdict: String,
    comment: String,
    reviewed_by: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<Review> for View {
    fn from(review: Review) -> Self {
        let Review { id, seq, verdict, comment, reviewed_by, created_at } = review;
        Self { review_id: id, seq, verdict, comment, reviewed_by, created_at }
    }
}

/// Lists reviews, newest first.
#[utoipa::path(
    get, path = "/audit/reviews", operation_id = "list_audit_reviews", tag = "audit",
    security(("token" = ["read_audit"])),
    params(ListParams),
    responses((status = 200, body = Page<View>)),
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<View>>, ApiError> {
    let limit = checked_limit(params.limit)?;
    let before = checked_cursor(params.cursor.as_ref())?;
    let mut scope = caller.open(&app, Operation::ReadAudit).await?;
    let reviews = scope.list_reviews(params.seq, before, limit).await.map_err(AppError::from)?;
    let views = reviews.into_iter().map(View::from).collect();
    Ok(Json(Page::new(views, limit, |view: &View| view.review_id.to_string())))
}

/// Keeps a review.
#[utoipa::path(
    post, path = "/audit/reviews", operation_id = "create_audit_review", tag = "audit",
    security(("token" = ["review_audit"])),
    request_body = Create,
    responses((status = 201, body = View)),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let verdict = match body.verdict {
        Verdict::Ok => "ok",
        Verdict::Violation => "violation",
        Verdict::NeedsRule => "needs_rule",
    };
    let request = CreateReview { seq: body.seq, verdict, comment: body.comment };
    let review = app.create_review(&caller, &request).await?;
    Ok((StatusCode::CREATED, Json(review.into())))
}
