//! After a new version of the policy: what an earlier one allowed and is not known to have started is
//! decided about anew, and called off where it would not be let through any more. What this misses
//! is noticed when its grant is over, minutes later: without a new one it cannot start.

use domain::ids::TenantId;
use protocol::calls::{Call, CallKind};
use protocol::session::{Authorized, ExecRef};

use super::{App, AppError};
use crate::worker::Place;

/// How long an executor may take to say that it ended a command, in milliseconds.
const END_MS: u64 = 10_000;

impl App {
    /// Looks at what was allowed before `version`, beside whatever else goes on.
    pub(super) fn recall_in_background(&self, tenant_id: TenantId, version: i64) {
        let app = self.clone();
        tokio::spawn(async move {
            if let Err(error) = app.recall_overtaken(tenant_id, version).await {
                tracing::warn!(%error, %tenant_id, "left to the end of its grants");
            }
        });
    }

    async fn recall_overtaken(&self, tenant_id: TenantId, version: i64) -> Result<(), AppError> {
        let mut last = None;
        loop {
            let mut scope = self.store.tenant(tenant_id).await?;
            let overtaken = scope.list_overtaken_execs(version, last).await?;
            drop(scope);
            let Some((_, newest)) = overtaken.last() else { return Ok(()) };
            last = Some(*newest);
            for (session_id, exec_id) in overtaken {
                let exec = ExecRef { tenant_id, session_id, exec_id };
                let Ok(_turn) = self.ahead.acquire().await else { return Ok(()) };
                match self.authorizer.authorize_at(exec).await {
                    Ok((Authorized::Run { .. }, Some(place))) => self.tell_recalled(exec, place),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, %exec_id, "left to the end of its grant"),
                }
            }
        }
    }

    /// If it was recalled, tells its workflow, which sees it through, and its executor, which is
    /// faster. Both hear it again if this gets lost: the first from the outbox, the other from the
    /// workflow.
    pub(super) fn tell_recalled(&self, exec: ExecRef, place: Place) {
        let ExecRef { tenant_id, session_id, exec_id } = exec;
        let Place { executor_id, limits, image_digest, min_generation, recalled, .. } = place;
        let Some(outgoing) = recalled else { return };
        self.send_in_background(vec![outgoing]);
        let what = CallKind::Cancel { exec_id };
        let call = Call {
            session_id,
            limits,
            image_digest,
            min_generation,
            token_id: None,
            what,
            timeout_ms: END_MS,
        };
        let calls = self.calls.clone();
        tokio::spawn(async move {
            if let Err(error) = calls.call(tenant_id, executor_id, call, None).await {
                tracing::debug!(%exec_id, %error, "left to the workflow");
            }
        });
    }
}
