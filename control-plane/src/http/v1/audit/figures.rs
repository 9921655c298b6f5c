//! `/v1/audit/figures`: how much policy allows by itself, and what reviewers think of it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::{App, Caller, Figures};
use crate::http::ApiError;
use crate::http::json::Params;

/// Query string of `GET /v1/audit/figures`: when the execs were asked for. The last 30 days by
/// default; at most 400.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShowParams {
    #[serde(default, with = "time::serde::rfc3339::option")]
    since: Option<OffsetDateTime>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    until: Option<OffsetDateTime>,
}

/// Figures of the execs that were asked for within some time. A rate of nothing is null.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditFigures)]
pub struct View {
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    until: OffsetDateTime,
    /// Execs that were decided about.
    decided: i64,
    /// Those of them that policy allowed by itself.
    auto_approved: i64,
    auto_approve_rate: Option<f64>,
    /// Auto-approved execs that somebody reviewed.
    reviewed: i64,
    /// Those of them whose last review says `violation` or `needs_rule`.
    overturned: i64,
    overturn_rate: Option<f64>,
    /// Execs that were drawn for review.
    sampled: i64,
    /// Those of them that wait for one.
    waiting: i64,
    /// Seconds from drawing to first review.
    time_to_review_s: TimeToReview,
}

/// Of the drawn execs that were reviewed.
#[derive(Serialize, ToSchema)]
#[schema(as = TimeToReview)]
pub struct TimeToReview {
    median: Option<f64>,
    p95: Option<f64>,
}

impl From<Figures> for View {
    fn from(figures: Figures) -> Self {
        let Figures { since, until, counts } = figures;
        let rate = |part: i64, whole: i64| (whole > 0).then(|| part as f64 / whole as f64);
        Self {
            since,
            until,
            decided: counts.decided,
            auto_approved: counts.auto_approved,
            auto_approve_rate: rate(counts.auto_approved, counts.decided),
            reviewed: counts.reviewed,
            overturned: counts.overturned,
            overturn_rate: rate(counts.overturned, counts.reviewed),
            sampled: counts.sampled,
            waiting: counts.waiting,
            time_to_review_s: TimeToReview { median: counts.median_s, p95: counts.p95_s },
        }
    }
}

/// Shows what came of reviews.
#[utoipa::path(
    get, path = "/audit/figures", operation_id = "get_audit_figures", tag = "audit",
    security(("token" = ["read_audit"])),
    params(ShowParams),
    responses((status = 200, body = View)),
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ShowParams>,
) -> Result<Json<View>, ApiError> {
    Ok(Json(app.get_review_figures(&caller, params.since, params.until).await?.into()))
}
