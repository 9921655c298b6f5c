//! Reviews: what waits for one, what a reviewer says, and what came of all of them.

use domain::access::Operation;
use domain::ids::{ExecId, TokenId};
use domain::limits::MAX_FIGURES_DAYS;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{App, AppError, Caller};
use crate::ids;
use crate::store::{AuditRecord, NewReview, Review, ReviewFigures, Sample, SampleOrder, Scope};

/// Longest comment of a review, in bytes.
const MAX_COMMENT_BYTES: usize = 4000;
/// How far back figures reach when nobody says otherwise.
const DEFAULT_FIGURES: Duration = Duration::days(30);

/// What a reviewer says.
pub struct CreateReview {
    /// The audit event.
    pub seq: i64,
    /// `ok`, `violation` or `needs_rule`.
    pub verdict: &'static str,
    /// Why.
    pub comment: String,
}

/// What came of reviews, and of which time.
pub struct Figures {
    /// The beginning.
    pub since: OffsetDateTime,
    /// The end.
    pub until: OffsetDateTime,
    /// What came of them.
    pub counts: ReviewFigures,
}

impl App {
    /// Keeps a review, on record.
    ///
    /// # Errors
    /// When the caller may not, there is no such event, or it is of the caller's own making.
    pub async fn create_review(
        &self,
        caller: &Caller,
        request: &CreateReview,
    ) -> Result<Review, AppError> {
        let comment = request.comment.as_str();
        if comment.len() > MAX_COMMENT_BYTES || comment.contains('\0') {
            return Err(AppError::invalid(
                "invalid_comment",
                format!("comment must be at most {MAX_COMMENT_BYTES} bytes without NUL characters"),
            ));
        }
        let mut scope = caller.open(self, Operation::ReviewAudit).await?;
        let reviewed = scope.get_audit(request.seq).await.map_err(AppError::of("audit event"))?;
        let exec_id: Option<ExecId> =
            reviewed.event.exec_id.as_deref().and_then(|id| id.parse().ok());
        if is_own(&mut scope, caller, &reviewed, exec_id).await? {
            return Err(AppError::Forbidden(
                "nobody reviews what they did or asked for, nor with a token that was made by \
                 whoever asked"
                    .into(),
            ));
        }
        let review = NewReview {
            id: ids::new(),
            seq: request.seq,
            exec_id,
            verdict: request.verdict,
            comment,
            reviewed_by: caller.actor(),
            token_id: caller.token_id,
        };
        let stored = scope.insert_review(&review).await?;
        if let Some(exec_id) = exec_id {
            scope.mark_sample_reviewed(exec_id).await?;
        }
        let detail = json!({
            "seq": request.seq, "object": reviewed.event.object, "comment": comment,
        });
        let mut entry = caller.entry("audit.review", stored.id.to_string(), detail);
        entry.outcome = request.verdict;
        // It goes where what it speaks of goes, should that be erased.
        entry.exec_id = exec_id;
        entry.session_id = reviewed.event.session_id.as_deref().and_then(|id| id.parse().ok());
        scope.append_audit(entry);
        scope.commit().await?;
        Ok(stored)
    }

    /// Execs that were drawn and wait for a review.
    ///
    /// # Errors
    /// When the caller may not.
    pub async fn list_review_queue(
        &self,
        caller: &Caller,
        order: SampleOrder,
        limit: i64,
    ) -> Result<Vec<Sample>, AppError> {
        let mut scope = caller.open(self, Operation::ReadAudit).await?;
        Ok(scope.list_samples(order, limit).await?)
    }

    /// What came of reviews, of the execs that were asked for since then and before the other time;
    /// of the last thirty days if nobody says otherwise.
    ///
    /// # Errors
    /// When the caller may not, or the time is none or too long.
    pub async fn get_review_figures(
        &self,
        caller: &Caller,
        since: Option<OffsetDateTime>,
        until: Option<OffsetDateTime>,
    ) -> Result<Figures, AppError> {
        caller.authorize(Operation::ReadAudit)?;
        let until = until.unwrap_or_else(OffsetDateTime::now_utc);
        let since = since
            .or_else(|| until.checked_sub(DEFAULT_FIGURES))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let length = until - since;
        if !length.is_positive() || length > Duration::days(MAX_FIGURES_DAYS) {
            let message = format!("since must be before until, by at most {MAX_FIGURES_DAYS} days");
            return Err(AppError::invalid("invalid_range", message));
        }
        let mut scope = caller.open(self, Operation::ReadAudit).await?;
        let counts = scope.count_reviews(since, until).await?;
        Ok(Figures { since, until, counts })
    }
}

/// Whether the caller did it or asked for the exec that it is about: itself, or whoever made its
/// token, as with approvals.
async fn is_own(
    scope: &mut Scope,
    caller: &Caller,
    reviewed: &AuditRecord,
    exec_id: Option<ExecId>,
) -> Result<bool, AppError> {
    if reviewed.event.token_id.as_deref() == Some(caller.token_id.to_string().as_str()) {
        return Ok(true);
    }
    let Some(exec_id) = exec_id else { return Ok(false) };
    let exec = scope.get_exec(exec_id).await.map_err(AppError::of("exec"))?;
    let Ok(asked) = exec.created_by.parse::<TokenId>() else { return Ok(false) };
    Ok(asked == caller.token_id || scope.descends_from(caller.token_id, asked).await?)
}
