//! What reviewers said about audit events.

use domain::ids::{ExecId, ReviewId, TokenId};
use sqlx::FromRow;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Scope, StoreError};

/// A review.
#[derive(Debug, Clone)]
pub struct Review {
    /// Its id.
    pub id: ReviewId,
    /// The audit event.
    pub seq: i64,
    /// `ok`, `violation` or `needs_rule`.
    pub verdict: String,
    /// What the reviewer wrote.
    pub comment: String,
    /// Who: name and role.
    pub reviewed_by: String,
    /// When.
    pub created_at: OffsetDateTime,
}

/// A review to be stored.
pub struct NewReview<'a> {
    /// Its id.
    pub id: ReviewId,
    /// The audit event.
    pub seq: i64,
    /// The exec that it is about, if it is about one.
    pub exec_id: Option<ExecId>,
    /// `ok`, `violation` or `needs_rule`.
    pub verdict: &'static str,
    /// What the reviewer wrote.
    pub comment: &'a str,
    /// Who: name and role.
    pub reviewed_by: &'a str,
    /// With which token.
    pub token_id: TokenId,
}

#[derive(FromRow)]
struct Row {
    id: String,
    seq: i64,
    verdict: String,
    comment: String,
    reviewed_by: String,
    created_at: OffsetDateTime,
}

impl Scope {
    /// Keeps a review.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_review(&mut self, review: &NewReview<'_>) -> Result<Review, StoreError> {
        let owner = self.owner.clone();
        let row: Row = sqlx::query_as(
            "INSERT INTO audit_reviews (tenant_id, id, seq, verdict, comment, reviewed_by, token_id,
                                        exec_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             RETURNING id, seq, verdict, comment, reviewed_by, created_at",
        )
        .bind(owner)
        .bind(review.id.to_string())
        .bind(review.seq)
        .bind(review.verdict)
        .bind(review.comment)
        .bind(review.reviewed_by)
        .bind(review.token_id.to_string())
        .bind(review.exec_id.map(|id| id.to_string()))
        .fetch_one(self.connection())
        .await?;
        row.try_into()
    }

    /// Reviews, newest first, older than `before` if given; of one event if `seq` is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_reviews(
        &mut self,
        seq: Option<i64>,
        before: Option<ReviewId>,
        limit: i64,
    ) -> Result<Vec<Review>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, seq, verdict, comment, reviewed_by, created_at FROM audit_reviews
             WHERE tenant_id = $1 AND ($2::bigint IS NULL OR seq = $2)
               AND ($3::text IS NULL OR id < $3)
             ORDER BY id DESC LIMIT $4",
        )
        .bind(owner)
        .bind(seq)
        .bind(before.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(Review::try_from).collect()
    }
}

impl TryFrom<Row> for Review {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: parsed(row.id.parse().ok(), "review id")?,
            seq: row.seq,
            verdict: row.verdict,
            comment: row.comment,
            reviewed_by: row.reviewed_by,
            created_at: row.created_at,
        })
    }
}
