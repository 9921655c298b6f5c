//! The terms of audit events, block by block: written some time after the events, because a command
//! waits for its events and nobody waits for these.

use std::collections::BTreeMap;

use sqlx::FromRow;

use super::audit_row::{COLUMNS, Row};
use super::{Scope, StoreError};

/// Events of a block. The migrations know it, too.
pub(super) const BLOCK: i64 = 512;

/// A chain, and the first of its blocks whose terms are not written although it is full.
#[derive(Debug, Clone, FromRow)]
pub struct FullBlock {
    /// The chain.
    pub chain: String,
    /// The block.
    pub block: i64,
    /// How many events of the chain stand in such blocks.
    pub waiting: i64,
}

/// The block that an event is in.
pub(super) fn block_of(seq: i64) -> i64 {
    (seq - 1).div_euclid(BLOCK)
}

/// The number before the first one of a block.
pub(super) fn before_block(block: i64) -> i64 {
    block * BLOCK
}

impl Scope {
    /// Chains with full blocks whose terms are not written. For the platform only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_full_blocks(&mut self) -> Result<Vec<FullBlock>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT h.chain, n.block, (h.seq / $1 - n.block) * $1 AS waiting
             FROM audit_heads h CROSS JOIN LATERAL (
                 SELECT coalesce(max(b.block) + 1, 0) AS block
                 FROM audit_blocks b WHERE b.chain = h.chain) n
             WHERE h.seq >= $1 AND h.seq >= (n.block + 1) * $1",
        )
        .bind(BLOCK)
        .fetch_all(self.connection())
        .await?;
        Ok(rows)
    }

    /// The last block of this scope's chain whose terms are written.
    pub(super) async fn last_audit_block(&mut self) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT max(block) FROM audit_blocks WHERE chain = $1";
        let last = sqlx::query_scalar(sql).bind(self.owner.clone());
        Ok(last.fetch_one(self.connection()).await?)
    }

    /// Writes the terms of a full block of this scope's chain, unless somebody else has.
    ///
    /// # Errors
    /// When the database fails, or the block is not full.
    pub async fn index_audit_block(&mut self, block: i64) -> Result<(), StoreError> {
        let chain = self.owner.clone();
        // Two statements: the second one sees what the holder before us committed.
        sqlx::query("SELECT lock_audit_terms($1)").bind(&chain).execute(self.connection()).await?;
        let is_written: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM audit_blocks WHERE chain = $1 AND block = $2)",
        )
        .bind(&chain)
        .bind(block)
        .fetch_one(self.connection())
        .await?;
        if is_written {
            return Ok(());
        }
        let (terms, places) =
            self.places_in_block(block).await?.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let sql = "INSERT INTO audit_terms (chain, term, block, places)
             SELECT $1, term, $2, places::smallint[]
             FROM unnest($3::text[], $4::text[]) AS found (term, places)";
        let places: Vec<String> = places.iter().map(|of_term| as_array(of_term)).collect();
        let insert = sqlx::query(sql).bind(&chain).bind(block).bind(terms).bind(places);
        insert.execute(self.connection()).await?;
        sqlx::query("INSERT INTO audit_blocks (chain, block) VALUES ($1, $2)")
            .bind(&chain)
            .bind(block)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Each term of a block's events with the places of those that have it.
    async fn places_in_block(
        &mut self,
        block: i64,
    ) -> Result<BTreeMap<String, Vec<i16>>, StoreError> {
        let before = before_block(block);
        let sql = format!(
            "SELECT {COLUMNS} FROM audit_events e
             WHERE e.chain = $1 AND e.seq > $2 AND e.seq <= $3 ORDER BY e.seq"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(self.owner.clone())
            .bind(before)
            .bind(before + BLOCK)
            .fetch_all(self.connection())
            .await?;
        if rows.len() as i64 != BLOCK {
            return Err(StoreError::Inconsistent("audit block"));
        }
        let mut found: BTreeMap<String, Vec<i16>> = BTreeMap::new();
        for (place, row) in (0..).zip(rows) {
            // One that cannot be read is found by none; who reads the log from end to end sees it.
            let Some(terms) = row.terms() else {
                tracing::error!(chain = self.owner, seq = row.seq, "an audit event was changed");
                continue;
            };
            for term in terms {
                found.entry(term).or_default().push(place);
            }
        }
        Ok(found)
    }
}

/// As Postgres writes an array.
fn as_array(places: &[i16]) -> String {
    let places: Vec<String> = places.iter().map(ToString::to_string).collect();
    format!("{{{}}}", places.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_each_other() {
        assert_eq!([1, 512, 513, 1024, 1025].map(block_of), [0, 0, 1, 1, 2]);
        assert_eq!([0, 1].map(before_block), [0, 512]);
        assert_eq!(as_array(&[0, 511]), "{0,511}");
    }
}
