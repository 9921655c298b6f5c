//! No intent is left without an outcome. Closed as `unknown` are: an exec of which nobody has told
//! anything, or that nobody has decided about, for long after its time; one that ended without its
//! closing audit event; a turn whose agent is gone; and work on files whose client left or whose
//! process died. What an executor knows always counts more, as long as it comes first.

use domain::ids::{ExecId, TenantId, TurnId};
use time::{Duration, OffsetDateTime};

use super::{PER_TENANT, Upkeep};
use crate::outcome::{OutcomeError, closing, files, turns};
use crate::store::Message;

/// Execs that are ended in one sweep of one tenant.
const OVERDUE_AT_ONCE: i64 = 100;
/// Pieces of work on files that are closed in one transaction.
const FILE_CALLS_AT_ONCE: i64 = 100;
/// Ended execs that are looked through in one transaction.
const ENDED_AT_ONCE: i64 = 1000;
/// How far before the last end that was seen the next look begins: a transaction that began earlier
/// may have been committed later.
const OVERLAP: Duration = Duration::minutes(2);

impl Upkeep {
    /// Ends what nobody can be expected to tell of any more.
    pub(super) async fn end_overdue(&self, tenant_id: TenantId) -> Result<(), OutcomeError> {
        let mut scope = self.store.tenant(tenant_id).await?;
        let overdue = scope.list_overdue_execs(self.unknown_after_s, OVERDUE_AT_ONCE).await?;
        drop(scope);
        for exec_id in overdue {
            if let Err(error) = self.end(tenant_id, exec_id).await {
                tracing::error!(%error, %exec_id, "it cannot be closed as unknown");
            }
        }
        Ok(())
    }

    async fn end(&self, tenant_id: TenantId, exec_id: ExecId) -> Result<(), OutcomeError> {
        let mut scope = self.store.tenant(tenant_id).await?;
        let Some(exec) = scope.lock_overdue_exec(exec_id, self.unknown_after_s).await? else {
            return Ok(());
        };
        closing::settle_unknown(&mut scope, &exec).await?;
        let outgoing = scope.promise(exec.session_id, Message::CancelExec(exec_id)).await?;
        scope.commit().await?;
        self.metrics.reconciled.inc();
        tracing::warn!(%exec_id, "closed as unknown: nobody told of its end");
        if let Err(error) = self.dispatcher.send(&outgoing).await {
            tracing::warn!(%error, %exec_id, "its workflow hears of it later");
        }
        Ok(())
    }

    /// Ends turns whose agent nobody can be expected to tell of any more.
    pub(super) async fn end_overdue_turns(&self, tenant_id: TenantId) -> Result<(), OutcomeError> {
        let mut scope = self.store.tenant(tenant_id).await?;
        let overdue = scope.list_overdue_turns(self.unknown_after_s, OVERDUE_AT_ONCE).await?;
        drop(scope);
        for turn_id in overdue {
            if let Err(error) = self.end_turn(tenant_id, turn_id).await {
                tracing::error!(%error, %turn_id, "it cannot be closed as unknown");
            }
        }
        Ok(())
    }

    async fn end_turn(&self, tenant_id: TenantId, turn_id: TurnId) -> Result<(), OutcomeError> {
        let mut scope = self.store.tenant(tenant_id).await?;
        let Some(turn) = scope.lock_overdue_turn(turn_id, self.unknown_after_s).await? else {
            return Ok(());
        };
        turns::end_unknown(&mut scope, &turn).await?;
        scope.commit().await?;
        self.metrics.reconciled.inc();
        tracing::warn!(%turn_id, "closed as unknown: nobody told of its end");
        Ok(())
    }

    /// Writes the missing events of execs that ended since the last look.
    pub(super) async fn record_ends(&mut self, tenant_id: TenantId) -> Result<(), OutcomeError> {
        let mut from = match self.seen.get(&tenant_id) {
            Some(seen) => *seen - OVERLAP,
            None => OffsetDateTime::UNIX_EPOCH,
        };
        loop {
            let mut scope = self.store.tenant(tenant_id).await?;
            let page = scope.list_unrecorded_ends(from, ENDED_AT_ONCE).await?;
            drop(scope);
            for exec_id in page.unrecorded {
                if let Err(error) = self.record_end(tenant_id, exec_id).await {
                    tracing::error!(%error, %exec_id, "its end cannot be written down");
                }
            }
            let Some(last) = page.last else { return Ok(()) };
            self.seen.insert(tenant_id, last);
            if i64::try_from(page.length).is_ok_and(|length| length < ENDED_AT_ONCE) {
                return Ok(());
            }
            // A page of one single moment would come again for ever.
            from = if last > from { last } else { last + Duration::MICROSECOND };
            tokio::time::sleep(PER_TENANT).await;
        }
    }

    /// Closes work on files whose outcome nobody can be expected to tell of any more.
    pub(super) async fn end_file_calls(&self, tenant_id: TenantId) -> Result<(), OutcomeError> {
        let age_s = self.unknown_after_s + files::TIMEOUT_MS as f64 / 1000.0;
        loop {
            let mut scope = self.store.tenant(tenant_id).await?;
            let overdue = scope.close_overdue_file_calls(age_s, FILE_CALLS_AT_ONCE).await?;
            if overdue.is_empty() {
                return Ok(());
            }
            for call in &overdue {
                scope.append_audit(files::unknown(call));
            }
            scope.commit().await?;
            self.metrics.reconciled.inc_by(overdue.len() as u64);
            tracing::warn!(%tenant_id, calls = overdue.len(), "work on files closed as unknown");
            tokio::time::sleep(PER_TENANT).await;
        }
    }

    async fn record_end(&self, tenant_id: TenantId, exec_id: ExecId) -> Result<(), OutcomeError> {
        let mut scope = self.store.tenant(tenant_id).await?;
        let Some(exec) = scope.lock_unrecorded_end(exec_id).await? else { return Ok(()) };
        closing::record_unknown(&mut scope, &exec);
        scope.commit().await?;
        self.metrics.reconciled.inc();
        tracing::error!(%exec_id, "it had ended without its audit event, and has one now");
        Ok(())
    }
}
