//! Reading the audit log out: exports and proofs. An export is on record before its first
//! byte leaves.

use serde_json::Value;

use super::{App, AppError, Caller};
use crate::checkpoints::CheckpointError;
use crate::store::{AuditFilter, AuditRecord, Scope, StoreError, StoredProof, Who};

/// Events read at a time, and their bytes, of which the last may be more; each time in a transaction
/// of its own, so that a slow reader holds none.
const BATCH: i64 = 1000;
const BATCH_BYTES: i64 = 4 * 1024 * 1024;
/// Events read at a time where a filter picks them: as many as a page may have.
const FILTERED_BATCH: i64 = domain::limits::MAX_PAGE;

/// An export that is on record and may begin.
pub struct Export {
    app: App,
    chain: Who,
    filter: AuditFilter,
    is_filtered: bool,
    /// The first event.
    pub from: i64,
    /// The proof that covers the last event; it is one of this very moment.
    pub last: StoredProof,
    next: i64,
}

/// Some events of an export in order, and the proofs of their chain as it was after one of them.
pub struct Batch {
    /// The events.
    pub records: Vec<AuditRecord>,
    /// The proofs.
    pub proofs: Vec<StoredProof>,
}

impl App {
    /// Has the caller's chain covered by a checkpoint of this moment.
    ///
    /// # Errors
    /// When the caller may not, or nothing can be signed.
    pub async fn checkpoint_audit(&self, caller: &Caller) -> Result<StoredProof, AppError> {
        let chain = caller.audit_chain()?;
        Ok(self.checkpointer.prove(&chain.to_string()).await?)
    }

    /// Puts an export on record and prepares it.
    ///
    /// # Errors
    /// When the caller may not, there is nothing from `from` on, or nothing can be signed.
    pub async fn export_audit(
        &self,
        caller: &Caller,
        from: i64,
        filter: AuditFilter,
        detail: Value,
    ) -> Result<Export, AppError> {
        let chain = caller.audit_chain()?;
        if from < 1 {
            return Err(AppError::invalid("invalid_from", "from must be at least 1"));
        }
        let mut scope = self.store.open(chain).await?;
        scope.append_audit(caller.entry("audit.export", chain.to_string(), detail));
        scope.commit().await?;
        let last = self.checkpointer.prove(&chain.to_string()).await?;
        if from > last.proof.size {
            let message = format!("from is beyond the last event, {}", last.proof.size);
            return Err(AppError::invalid("invalid_from", message));
        }
        let is_filtered = filter != AuditFilter::default();
        Ok(Export { app: self.clone(), chain, filter, is_filtered, from, last, next: from })
    }
}

impl Export {
    /// The hash of the event before the first one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn previous(&self) -> Result<audit::Hash, AppError> {
        if self.from == 1 {
            return Ok(audit::GENESIS);
        }
        let mut scope = self.app.store.open(self.chain).await?;
        Ok(scope.get_audit(self.from - 1).await?.hash)
    }

    /// The public keys for the manifest.
    pub fn public_keys(&self) -> Vec<String> {
        self.app.checkpointer.public_keys()
    }

    /// The next events; `None` after the last one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<Batch>, AppError> {
        let last = self.last.proof.size;
        if self.next > last {
            return Ok(None);
        }
        let mut scope = self.app.store.open(self.chain).await?;
        let (mut records, is_full) = self.read(&mut scope).await?;
        records.retain(|record| record.event.seq <= last);
        let end = records.last().filter(|_| is_full).map_or(last, |record| record.event.seq);
        // One of many suffices: it tells in which batch something was rewritten. Where the last one is
        // of this moment, an earlier one tells what was signed before.
        let is_last = end == last;
        let earlier = scope.find_proof(self.next, if is_last { end - 1 } else { end }).await?;
        let newest = is_last.then(|| self.last.clone());
        self.next = end + 1;
        Ok(Some(Batch { records, proofs: earlier.into_iter().chain(newest).collect() }))
    }

    /// The next events, and whether there may be more of them.
    async fn read(&self, scope: &mut Scope) -> Result<(Vec<AuditRecord>, bool), AppError> {
        let after = self.next - 1;
        let limit = match self.is_filtered {
            true => FILTERED_BATCH,
            false => scope.count_audit_within(after, BATCH, BATCH_BYTES).await?,
        };
        let records = match scope.list_audit(&self.filter, after, limit).await {
            // What stands before one that was changed is good, and then that one comes first. In the
            // beginning, nothing is sent yet, and the answer names it.
            Err(StoreError::AuditEvent(bad))
                if !self.is_filtered && self.next > self.from && bad > self.next =>
            {
                let good = bad - self.next;
                return Ok((scope.list_audit(&self.filter, after, good).await?, true));
            }
            records => records?,
        };
        let is_full = i64::try_from(records.len()).is_ok_and(|length| length == limit);
        Ok((records, is_full))
    }
}

impl From<CheckpointError> for AppError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Store(error) => error.into(),
            // Which chain or file it is, is the operator's to know.
            CheckpointError::RolledBack { .. }
            | CheckpointError::Contradiction { .. }
            | CheckpointError::Proofs => {
                tracing::error!(%error, "no audit checkpoint");
                let message = "the audit log of this installation contradicts what was signed of it \
                               before; nothing is signed or exported until its operator has looked";
                Self::Conflict { code: "audit_contradiction", message: message.into() }
            }
            error => Self::internal(error),
        }
    }
}
