//! Tells sessions whose executor is silent, and gives up what ran on executors that are gone for
//! good: their execs are `lost`, and the sessions go on elsewhere. An executor that nobody could
//! replace is waited for, until `upkeep` gives up what it has. Forgets, once an hour, answers that
//! were kept for a day.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::exec::ExecOutcome;
use domain::ids::{ExecId, TenantId};

use crate::dispatch::Dispatcher;
use crate::outcome::{OutcomeError, closing};
use crate::store::{EventKind, Message, Sighting, Store, StoreError};

/// How often to look, in parts of the time after which an executor counts as gone; at least every
/// five seconds.
const LOOKS: f64 = 4.0;
/// How often old answers are forgotten.
const FORGET: Duration = Duration::from_secs(60 * 60);
const PER_TENANT: Duration = Duration::from_millis(50);
const REASON: &str = "its executor is gone; the command may have run in part";

/// Looks for as long as the process lives.
pub async fn run(store: Store, dispatcher: Arc<Dispatcher>, gone_after_s: f64) {
    let pause = Duration::from_secs_f64((gone_after_s / LOOKS).clamp(0.5, 5.0));
    let mut forget_at = Instant::now();
    loop {
        tokio::time::sleep(pause).await;
        if Instant::now() >= forget_at {
            forget_at = Instant::now() + FORGET;
            if let Err(error) = forget_answers(&store).await {
                tracing::warn!(%error, "cannot forget old answers");
            }
        }
        match look(&store, &dispatcher, gone_after_s).await {
            // With many tenants looking is work: a twentieth of a second's rest for each.
            Ok(tenants) => tokio::time::sleep(PER_TENANT * tenants).await,
            Err(error) => tracing::warn!(%error, "cannot look for executors that are gone"),
        }
    }
}

/// Answers that show a secret go after a day, whether or not anybody sends another key.
async fn forget_answers(store: &Store) -> Result<(), StoreError> {
    let mut platform = store.platform().await?;
    let tenants = platform.list_tenants(None, i64::MAX).await?;
    platform.forget_old_keys().await?;
    platform.commit().await?;
    for tenant in tenants {
        let mut scope = store.tenant(tenant.id).await?;
        scope.forget_old_keys().await?;
        scope.commit().await?;
        tokio::time::sleep(PER_TENANT).await;
    }
    Ok(())
}

async fn look(
    store: &Store,
    dispatcher: &Dispatcher,
    gone_after_s: f64,
) -> Result<u32, OutcomeError> {
    let tenants = store.platform().await?.list_tenants(None, i64::MAX).await?;
    let count = u32::try_from(tenants.len()).unwrap_or(u32::MAX);
    for tenant in tenants {
        tell_sessions(store, tenant.id).await?;
        let mut scope = store.tenant(tenant.id).await?;
        let stranded = scope.list_stranded_execs(gone_after_s).await?;
        drop(scope);
        for exec_id in stranded {
            give_up(store, dispatcher, tenant.id, exec_id).await?;
        }
    }
    Ok(count)
}

/// Tells sessions that their executor does not answer, and that it does again.
async fn tell_sessions(store: &Store, tenant_id: TenantId) -> Result<(), OutcomeError> {
    let mut scope = store.tenant(tenant_id).await?;
    let told = scope.note_silent_executors().await?;
    if told.is_empty() {
        return Ok(());
    }
    for Sighting { session_id, executor_id, is_silent } in told {
        let kind = if is_silent { EventKind::ExecutorSilent } else { EventKind::ExecutorBack };
        let data = serde_json::json!({ "executor_id": executor_id });
        scope.append_event(session_id, kind, data).await?;
    }
    Ok(scope.commit().await?)
}

async fn give_up(
    store: &Store,
    dispatcher: &Dispatcher,
    tenant_id: TenantId,
    exec_id: ExecId,
) -> Result<(), OutcomeError> {
    let mut scope = store.tenant(tenant_id).await?;
    let exec = scope.lock_exec(exec_id).await?;
    if exec.state.is_terminal() {
        return Ok(());
    }
    closing::settle(&mut scope, &exec, ExecOutcome::Lost, Some(REASON)).await?;
    let outgoing = scope.promise(exec.session_id, Message::CancelExec(exec_id)).await?;
    scope.commit().await?;
    tracing::warn!(%exec_id, "lost: its executor is gone");
    if let Err(error) = dispatcher.send(&outgoing).await {
        tracing::warn!(%error, %exec_id, "its workflow hears of it later");
    }
    Ok(())
}
