//! Hands a command that policy allows straight to its executor, ahead of its workflow, which has
//! been told of it before. The workflow decides and asks by itself all the same: it finds the
//! decision made, and the command running or done. What fails here is left to it.

use domain::ids::{ExecId, SessionId, TenantId};
use protocol::calls::{Call, CallKind};
use protocol::exec::Intent;
use protocol::session::{Authorized, ExecRef};

use super::App;
use crate::worker::Place;

/// How long an executor may take to say that it took the command, in milliseconds.
const TAKE_MS: u64 = 10_000;

impl App {
    pub(super) async fn hand_over(
        &self,
        tenant_id: TenantId,
        session_id: SessionId,
        exec_id: ExecId,
    ) {
        let exec = ExecRef { tenant_id, session_id, exec_id };
        let (request, place) = match self.authorizer.authorize_at(exec).await {
            Ok((Authorized::Run { request, .. }, Some(place))) => (request, place),
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%exec_id, %error, "left to the workflow");
                return;
            }
        };
        if request.intent != Intent::Run {
            return;
        }
        let Place { executor_id, limits, image_digest, min_generation } = place;
        let what = CallKind::Run { request };
        let call =
            Call { session_id, limits, image_digest, min_generation, what, timeout_ms: TAKE_MS };
        let calls = self.calls.clone();
        // Nobody waits for its answer: the result is what counts.
        tokio::spawn(async move {
            if let Err(error) = calls.call(tenant_id, executor_id, call, None).await {
                tracing::debug!(%exec_id, %error, "left to the workflow");
            }
        });
    }
}
