//! Requests in a minute, summed over all control planes. Holds ids and numbers only.

use sqlx::FromRow;

use super::{Store, StoreError};

/// Requests of one token or tenant.
#[derive(Debug, Clone, FromRow)]
pub struct RateCount {
    /// The token's or tenant's id.
    pub subject: String,
    /// How many.
    pub requests: i64,
}

impl Store {
    /// Adds to the counts of a minute; gives what they are now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_rates(
        &self,
        minute: i64,
        added: &[RateCount],
    ) -> Result<Vec<RateCount>, StoreError> {
        let subjects: Vec<&str> = added.iter().map(|count| count.subject.as_str()).collect();
        let requests: Vec<i64> = added.iter().map(|count| count.requests).collect();
        // In one order, so that two control planes never wait for one another.
        Ok(sqlx::query_as(
            "INSERT INTO request_rates (subject, minute, requests)
             SELECT subject, $1, requests FROM unnest($2::text[], $3::bigint[])
                 AS added (subject, requests) ORDER BY subject
             ON CONFLICT (subject, minute)
                 DO UPDATE SET requests = request_rates.requests + excluded.requests
             RETURNING subject, requests",
        )
        .bind(minute)
        .bind(subjects)
        .bind(requests)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Removes the counts of minutes that are over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sweep_rates(&self) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM request_rates WHERE minute < extract(epoch FROM now())::bigint / 60 - 5",
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
