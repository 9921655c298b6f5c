//! Gives up what ran on executors that are gone for good: their execs are `lost`, and the sessions
//! go on elsewhere. An executor that nobody could replace is waited for, however long.

use std::sync::Arc;
use std::time::Duration;

use domain::exec::ExecOutcome;
use domain::ids::{ExecId, TenantId};

use crate::dispatch::Dispatcher;
use crate::outcome::{OutcomeError, closing};
use crate::store::{Message, Store};

/// How often to look, in parts of the time after which an executor counts as gone.
const LOOKS: f64 = 4.0;
const REASON: &str = "its executor is gone; the command may have run in part";

/// Looks for as long as the process lives.
pub async fn run(store: Store, dispatcher: Arc<Dispatcher>, gone_after_s: f64) {
    let pause = Duration::from_secs_f64((gone_after_s / LOOKS).clamp(0.5, 60.0));
    loop {
        tokio::time::sleep(pause).await;
        if let Err(error) = look(&store, &dispatcher, gone_after_s).await {
            tracing::warn!(%error, "cannot look for executors that are gone");
        }
    }
}

async fn look(
    store: &Store,
    dispatcher: &Dispatcher,
    gone_after_s: f64,
) -> Result<(), OutcomeError> {
    let tenants = store.platform().await?.list_tenants(None, i64::MAX).await?;
    for tenant in tenants {
        let mut scope = store.tenant(tenant.id).await?;
        let stranded = scope.list_stranded_execs(gone_after_s).await?;
        drop(scope);
        for exec_id in stranded {
            give_up(store, dispatcher, tenant.id, exec_id).await?;
        }
    }
    Ok(())
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
