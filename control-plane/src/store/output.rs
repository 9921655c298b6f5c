//! Output bytes, addressed by offset. Chunks follow each other without gap or overlap.

use domain::ids::ExecId;
use protocol::enrolment::Loss;
use protocol::init::Stream;
use sqlx::types::Json;

use super::{Scope, StoreError};

/// Bytes of one stream from some offset.
#[derive(Debug)]
pub struct OutputSlice {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Bytes stored of the whole stream.
    pub stored: u64,
}

impl Scope {
    /// Bytes stored of one stream.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_output(
        &mut self,
        exec_id: ExecId,
        stream: Stream,
    ) -> Result<u64, StoreError> {
        let owner = self.owner.clone();
        let end: Option<i64> = sqlx::query_scalar(
            "SELECT start_offset + length(bytes) FROM output_chunks
             WHERE tenant_id = $1 AND exec_id = $2 AND stream = $3
             ORDER BY start_offset DESC LIMIT 1",
        )
        .bind(owner)
        .bind(exec_id.to_string())
        .bind(stream.as_str())
        .fetch_optional(self.connection())
        .await?;
        Ok(end.unwrap_or(0).try_into().unwrap_or(0))
    }

    /// Appends what is new of `bytes`, which start at `offset`. The caller holds the exec's row,
    /// so that two writers cannot interleave. Bytes beyond a gap are refused by leaving them out.
    ///
    /// Returns how much of the stream is stored now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn append_output(
        &mut self,
        exec_id: ExecId,
        stream: Stream,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, StoreError> {
        let stored = self.count_output(exec_id, stream).await?;
        let fresh = stored
            .checked_sub(offset)
            .and_then(|skip| bytes.get(usize::try_from(skip).ok()?..))
            .filter(|fresh| !fresh.is_empty());
        let Some(fresh) = fresh else { return Ok(stored) };
        let owner = self.owner.clone();
        sqlx::query(
            "INSERT INTO output_chunks (tenant_id, exec_id, stream, start_offset, bytes)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(owner)
        .bind(exec_id.to_string())
        .bind(stream.as_str())
        .bind(stored as i64)
        .bind(fresh)
        .execute(self.connection())
        .await?;
        self.add_usage(0, fresh.len() as i64, 0).await?;
        Ok(stored + fresh.len() as u64)
    }

    /// Writes down that the rest of a stream will never come. The first word stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lose_output(
        &mut self,
        exec_id: ExecId,
        stream: Stream,
        loss: Loss,
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        sqlx::query(match stream {
            Stream::Stdout => {
                "UPDATE execs SET stdout_lost = coalesce(stdout_lost, $3)
                 WHERE tenant_id = $1 AND id = $2"
            }
            Stream::Stderr => {
                "UPDATE execs SET stderr_lost = coalesce(stderr_lost, $3)
                 WHERE tenant_id = $1 AND id = $2"
            }
        })
        .bind(owner)
        .bind(exec_id.to_string())
        .bind(Json(loss))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Whether an exec's session was moved away from the executor that the exec was granted to.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_moved_away(&mut self, exec_id: ExecId) -> Result<bool, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (
                 SELECT FROM execs
                 JOIN sessions ON sessions.tenant_id = execs.tenant_id
                              AND sessions.id = execs.session_id
                 WHERE execs.tenant_id = $1 AND execs.id = $2
                   AND execs.executor_id <> sessions.executor_id)",
        )
        .bind(owner)
        .bind(exec_id.to_string())
        .fetch_one(self.connection())
        .await?)
    }

    /// Up to `limit` bytes from `offset`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read_output(
        &mut self,
        exec_id: ExecId,
        stream: Stream,
        offset: u64,
        limit: usize,
    ) -> Result<OutputSlice, StoreError> {
        let stored = self.count_output(exec_id, stream).await?;
        let end = stored.min(offset.saturating_add(limit as u64));
        if offset >= end {
            return Ok(OutputSlice { bytes: Vec::new(), stored });
        }
        let owner = self.owner.clone();
        // Starts with the newest chunk that begins at or before the offset.
        let chunks: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "SELECT start_offset, bytes FROM output_chunks
             WHERE tenant_id = $1 AND exec_id = $2 AND stream = $3 AND start_offset < $5
               AND start_offset >= (SELECT max(start_offset) FROM output_chunks
                                    WHERE tenant_id = $1 AND exec_id = $2 AND stream = $3
                                      AND start_offset <= $4)
             ORDER BY start_offset",
        )
        .bind(owner)
        .bind(exec_id.to_string())
        .bind(stream.as_str())
        .bind(offset as i64)
        .bind(end as i64)
        .fetch_all(self.connection())
        .await?;
        let first = chunks.first().map_or(0, |(start, _)| *start as u64);
        let joined: Vec<u8> = chunks.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let range = (offset - first) as usize..(end - first) as usize;
        let bytes = joined.get(range).ok_or(StoreError::Inconsistent("output chunks"))?.to_vec();
        Ok(OutputSlice { bytes, stored })
    }
}
