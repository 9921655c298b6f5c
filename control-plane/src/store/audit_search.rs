//! Which events have all of some terms, as far as terms are written: block by block, each term's blocks
//! in order. A block that one term lacks is skipped in the others, so terms that never meet cost
//! about as much as the rarest of them.

use std::collections::VecDeque;

use sqlx::FromRow;

use super::audit_index::{before_block, block_of};
use super::{Scope, StoreError};

/// Blocks that are read at once, at first and at most.
const READ_AT_ONCE: (i64, i64) = (16, 256);

/// The numbers of events that have all terms, in order.
#[derive(Debug)]
pub(super) struct Search {
    terms: Vec<Blocks>,
    /// Numbers before and after which nothing is looked for.
    after: i64,
    until: i64,
    /// The block to look at next.
    block: i64,
}

/// The blocks that have a term.
#[derive(Debug)]
struct Blocks {
    term: String,
    read: VecDeque<BlockRow>,
    /// From which block on nothing was read yet.
    unread_from: i64,
    at_once: i64,
}

#[derive(Debug, Clone, FromRow)]
struct BlockRow {
    block: i64,
    places: Vec<i16>,
}

impl Search {
    /// Looks for events with all of `terms`, which are some, after one number and up to another.
    pub(super) fn new(terms: Vec<String>, after: i64, until: i64) -> Self {
        let block = block_of(after + 1);
        let at_once = READ_AT_ONCE.0;
        let blocks = |term| Blocks { term, read: VecDeque::new(), unread_from: block, at_once };
        Self { terms: terms.into_iter().map(blocks).collect(), after, until, block }
    }

    /// At least `wanted` more, but for the last ones. Empty: there are no more.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn next(
        &mut self,
        scope: &mut Scope,
        wanted: usize,
    ) -> Result<Vec<i64>, StoreError> {
        let mut found = Vec::new();
        while found.len() < wanted.max(1) {
            let Some(row) = self.next_block(scope).await? else { break };
            self.block = row.block + 1;
            let before = before_block(row.block);
            let numbers = row.places.iter().map(|place| before + 1 + i64::from(*place));
            found.extend(numbers.filter(|seq| *seq > self.after && *seq <= self.until));
        }
        Ok(found)
    }

    /// The next block in which all terms meet, and where.
    async fn next_block(&mut self, scope: &mut Scope) -> Result<Option<BlockRow>, StoreError> {
        let last = block_of(self.until);
        'block: loop {
            let mut met: Option<BlockRow> = None;
            for blocks in &mut self.terms {
                let Some(row) = blocks.seek(scope, self.block, last).await? else {
                    return Ok(None);
                };
                if row.block > self.block {
                    self.block = row.block;
                    if met.is_some() {
                        continue 'block;
                    }
                }
                met = Some(match met {
                    None => row,
                    Some(met) => BlockRow { places: common(&met.places, &row.places), ..met },
                });
            }
            match met {
                Some(row) if row.places.is_empty() => self.block = row.block + 1,
                met => return Ok(met),
            }
        }
    }
}

impl Blocks {
    /// The first block from `from` to `last` that has the term.
    async fn seek(
        &mut self,
        scope: &mut Scope,
        from: i64,
        last: i64,
    ) -> Result<Option<BlockRow>, StoreError> {
        self.read.drain(..self.read.partition_point(|row| row.block < from));
        if self.read.is_empty() && self.unread_from <= last {
            let from = from.max(self.unread_from);
            let rows: Vec<BlockRow> = sqlx::query_as(
                "SELECT block, places FROM audit_terms
                 WHERE chain = $1 AND term = $2 AND block >= $3 AND block <= $4
                 ORDER BY block LIMIT $5",
            )
            .bind(scope.owner.clone())
            .bind(&self.term)
            .bind(from)
            .bind(last)
            .bind(self.at_once)
            .fetch_all(scope.connection())
            .await?;
            let is_full = rows.len() as i64 == self.at_once;
            let next = rows.last().map_or(i64::MAX, |row| row.block + 1);
            self.unread_from = if is_full { next } else { i64::MAX };
            self.at_once = (self.at_once * 4).min(READ_AT_ONCE.1);
            self.read = rows.into();
        }
        Ok(self.read.front().cloned())
    }
}

/// What two ordered lists share.
fn common(one: &[i16], other: &[i16]) -> Vec<i16> {
    let mut rest = other;
    let mut found = Vec::new();
    for place in one {
        let skipped = rest.partition_point(|it| it < place);
        rest = &rest[skipped..];
        if rest.first() == Some(place) {
            found.push(*place);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_share_what_is_in_both() {
        assert_eq!(common(&[1, 3, 5, 9], &[0, 3, 4, 5, 8]), [3, 5]);
        assert_eq!(common(&[1, 2], &[3, 4]), [0; 0]);
        assert_eq!(common(&[], &[3, 4]), [0; 0]);
        assert_eq!(common(&[511], &[0, 511]), [511]);
    }
}
