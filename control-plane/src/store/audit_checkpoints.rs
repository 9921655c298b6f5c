//! Checkpoints and the proofs that chains are in them: appended by the platform, read by tenants.

use audit::{ChainProof, Hash, Leaf};
use sqlx::FromRow;

use super::audit_rows::bytes;
use super::{Scope, StoreError};

/// Held by whoever makes a checkpoint: their numbers have no gaps and no doubles.
const CHECKPOINT_LOCK: i64 = 0x6275_6c6b_6865_6164;

/// A signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct StoredCheckpoint {
    /// From 1, without gaps.
    pub number: i64,
    /// When it was made, in microseconds since the epoch.
    pub time_us: i64,
    /// The signed note.
    pub note: String,
}

/// A chain as it is now, and what the last proof says of it.
#[derive(Debug, Clone)]
pub struct ChainHead {
    /// How long it is, and its last hash.
    pub leaf: Leaf,
    /// Size and hash in its last proof, if it has one.
    pub proven: Option<(i64, Hash)>,
}

/// A proof, with the checkpoint that it belongs to.
#[derive(Debug, Clone)]
pub struct StoredProof {
    /// The checkpoint's number.
    pub number: i64,
    /// When it was made, in microseconds since the epoch.
    pub time_us: i64,
    /// What a tenant gets.
    pub proof: ChainProof,
}

#[derive(FromRow)]
struct HeadRow {
    chain: String,
    seq: i64,
    hash: Vec<u8>,
    proven_size: Option<i64>,
    proven_head: Option<Vec<u8>>,
}

#[derive(FromRow)]
struct ProofRow {
    chain: String,
    number: i64,
    time_us: i64,
    size: i64,
    head: Vec<u8>,
    leaf_index: i64,
    path: Vec<u8>,
    note: String,
}

const PROOF: &str = "SELECT p.chain, p.number, c.time_us, p.size, p.head, p.leaf_index, p.path, \
    c.note FROM audit_checkpoint_proofs p JOIN audit_checkpoints c USING (number)";

impl Scope {
    /// Lets one at a time make checkpoints, until the transaction ends.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_checkpoints(&mut self) -> Result<(), StoreError> {
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(CHECKPOINT_LOCK)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Checkpoints with a number above `after`, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_checkpoints(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let sql = "SELECT number, time_us, note FROM audit_checkpoints WHERE number > $1
                   ORDER BY number LIMIT $2";
        Ok(sqlx::query_as(sql).bind(after).bind(limit).fetch_all(self.connection()).await?)
    }

    /// The newest checkpoint, if there is one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_last_checkpoint(&mut self) -> Result<Option<StoredCheckpoint>, StoreError> {
        let sql = "SELECT number, time_us, note FROM audit_checkpoints
                   ORDER BY number DESC LIMIT 1";
        Ok(sqlx::query_as(sql).fetch_optional(self.connection()).await?)
    }

    /// All chains as they are at one moment, and that moment. For the platform only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_chain_heads(&mut self) -> Result<(Vec<ChainHead>, i64), StoreError> {
        let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let time_us: i64 = sqlx::query_scalar(now).fetch_one(self.connection()).await?;
        let rows: Vec<HeadRow> = sqlx::query_as(
            "SELECT h.chain, h.seq, h.hash, p.size AS proven_size, p.head AS proven_head
             FROM audit_heads h LEFT JOIN LATERAL (
                 SELECT size, head FROM audit_checkpoint_proofs p WHERE p.chain = h.chain
                 ORDER BY number DESC LIMIT 1) p ON true",
        )
        .fetch_all(self.connection())
        .await?;
        let heads = rows.into_iter().map(ChainHead::try_from).collect::<Result<_, _>>()?;
        Ok((heads, time_us))
    }

    /// The hashes that some events have now, with their chains; none of one that is not there. For
    /// the platform only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_audit_hashes(
        &mut self,
        events: &[(&str, i64)],
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let (chains, numbers): (Vec<&str>, Vec<i64>) = events.iter().copied().unzip();
        Ok(sqlx::query_as("SELECT chain, hash FROM audit_hashes_at($1, $2)")
            .bind(chains)
            .bind(numbers)
            .fetch_all(self.connection())
            .await?)
    }

    /// Keeps a checkpoint. For the platform only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_checkpoint(
        &mut self,
        checkpoint: &StoredCheckpoint,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO audit_checkpoints (number, time_us, note) VALUES ($1, $2, $3)")
            .bind(checkpoint.number)
            .bind(checkpoint.time_us)
            .bind(&checkpoint.note)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Keeps that a chain is in checkpoint `number`. For the platform only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_proof(
        &mut self,
        number: i64,
        proof: &ChainProof,
    ) -> Result<(), StoreError> {
        let index = i64::try_from(proof.index).map_err(|_| StoreError::Inconsistent("leaf"))?;
        sqlx::query(
            "INSERT INTO audit_checkpoint_proofs (chain, number, size, head, leaf_index, path)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&proof.chain)
        .bind(number)
        .bind(proof.size)
        .bind(proof.head.as_slice())
        .bind(index)
        .bind(proof.path.concat())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Proofs of this scope's chain, newest first, with a number below `before` if given.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_proofs(
        &mut self,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<StoredProof>, StoreError> {
        let sql =
            format!("{PROOF} WHERE p.chain = $1 AND p.number < $2 ORDER BY p.number DESC LIMIT $3");
        let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(self.owner.clone());
        let query = query.bind(before.unwrap_or(i64::MAX)).bind(limit);
        let rows: Vec<ProofRow> = query.fetch_all(self.connection()).await?;
        rows.into_iter().map(StoredProof::try_from).collect()
    }

    /// The proof of this scope's chain that covers most events, but at least `first` and at most
    /// `last`; of several, the newest.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_proof(
        &mut self,
        first: i64,
        last: i64,
    ) -> Result<Option<StoredProof>, StoreError> {
        let sql = format!(
            "{PROOF} WHERE p.chain = $1 AND p.size BETWEEN $2 AND $3
             ORDER BY p.size DESC, p.number DESC LIMIT 1"
        );
        let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(self.owner.clone());
        let row: Option<ProofRow> =
            query.bind(first).bind(last).fetch_optional(self.connection()).await?;
        row.map(StoredProof::try_from).transpose()
    }
}

impl TryFrom<HeadRow> for ChainHead {
    type Error = StoreError;

    fn try_from(row: HeadRow) -> Result<Self, StoreError> {
        let leaf = Leaf { chain: row.chain, size: row.seq, head: bytes(row.hash)? };
        let proven = match (row.proven_size, row.proven_head) {
            (Some(size), Some(head)) => Some((size, bytes(head)?)),
            _ => None,
        };
        Ok(Self { leaf, proven })
    }
}

impl TryFrom<ProofRow> for StoredProof {
    type Error = StoreError;

    fn try_from(row: ProofRow) -> Result<Self, StoreError> {
        let index = u64::try_from(row.leaf_index).map_err(|_| StoreError::Inconsistent("leaf"))?;
        let path =
            row.path.chunks(32).map(|hash| bytes(hash.to_vec())).collect::<Result<_, _>>()?;
        let (chain, size, note) = (row.chain, row.size, row.note);
        let proof = ChainProof { chain, size, head: bytes(row.head)?, index, path, note };
        Ok(Self { number: row.number, time_us: row.time_us, proof })
    }
}
