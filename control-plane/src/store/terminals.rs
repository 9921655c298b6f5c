//! What a recording of a terminal is made of: output with the time of its arrival, and sizes.

use std::time::Duration;

use domain::ids::ExecId;
use protocol::init::{Stream, TerminalSize};
use sqlx::FromRow;
use time::OffsetDateTime;

use super::error::parsed;
use super::{Scope, StoreError};

/// Output as it arrived.
#[derive(Debug, Clone, FromRow)]
pub struct Arrival {
    start_offset: i64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// When; of old ones it is not known.
    pub arrived_at: Option<OffsetDateTime>,
}

impl Arrival {
    /// Where the next one begins.
    pub fn end(&self) -> u64 {
        self.start_offset.unsigned_abs() + self.bytes.len() as u64
    }
}

/// A size that a terminal got.
#[derive(Debug, Clone, Copy)]
pub struct Resized {
    /// Grows.
    pub number: i64,
    /// The size.
    pub size: TerminalSize,
    /// When.
    pub at: OffsetDateTime,
}

#[derive(FromRow)]
struct Row {
    number: i64,
    rows: i32,
    cols: i32,
    set_at: OffsetDateTime,
}

impl TryFrom<Row> for Resized {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let rows = parsed(row.rows.try_into().ok(), "terminal rows")?;
        let cols = parsed(row.cols.try_into().ok(), "terminal columns")?;
        Ok(Self { number: row.number, size: TerminalSize { rows, cols }, at: row.set_at })
    }
}

impl Scope {
    /// Chunks of an exec's standard output that begin at `offset` or later, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_arrivals(
        &mut self,
        exec_id: ExecId,
        offset: u64,
        limit: i64,
    ) -> Result<Vec<Arrival>, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_as(
            "SELECT start_offset, bytes, arrived_at FROM output_chunks
             WHERE tenant_id = $1 AND exec_id = $2 AND stream = $3 AND start_offset >= $4
             ORDER BY start_offset LIMIT $5",
        )
        .bind(owner)
        .bind(exec_id.to_string())
        .bind(Stream::Stdout.as_str())
        .bind(i64::try_from(offset).unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(self.connection())
        .await?)
    }

    /// Keeps that an exec's terminal got another size, `ago`, by the database's clock.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_terminal_size(
        &mut self,
        exec_id: ExecId,
        size: TerminalSize,
        ago: Duration,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO terminal_sizes (tenant_id, exec_id, rows, cols, set_at)
             VALUES ($1, $2, $3, $4, clock_timestamp() - make_interval(secs => $5))",
        )
        .bind(owner)
        .bind(exec_id.to_string())
        .bind(i32::from(size.rows))
        .bind(i32::from(size.cols))
        .bind(ago.as_secs_f64())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Sizes that an exec's terminal got, with a number above `after`, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_terminal_sizes(
        &mut self,
        exec_id: ExecId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Resized>, StoreError> {
        let owner = self.owner.clone();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT number, rows, cols, set_at FROM terminal_sizes
             WHERE tenant_id = $1 AND exec_id = $2 AND number > $3 ORDER BY number LIMIT $4",
        )
        .bind(owner)
        .bind(exec_id.to_string())
        .bind(after)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(Resized::try_from).collect()
    }
}
