//! The short way to an executor, beside the workflow, which has been told the same: a command that
//! policy allows is brought there at once, and one that is called off is ended at once. The
//! workflow decides and asks by itself all the same, and finds it running or done. What fails here
//! is left to it.

use std::time::Duration;

use protocol::calls::{Call, CallKind};
use protocol::exec::Intent;
use protocol::session::{Authorized, ExecRef};
use tokio::time::timeout;

use super::{App, Caller};
use crate::store::Exec;
use crate::worker::Place;

/// Decisions that one replica makes ahead of workflows at once, and how long others wait for their
/// turn. Each takes a connection to the database.
pub const MAX_AHEAD: usize = 6;
const PATIENCE: Duration = Duration::from_millis(50);
/// How long an executor may take to say that it took the command, in milliseconds.
const TAKE_MS: u64 = 10_000;

impl App {
    /// Decides about an exec and brings it to its executor if it may run.
    pub(super) async fn hand_over(&self, exec: ExecRef) {
        let ExecRef { tenant_id, session_id, exec_id } = exec;
        // Many at once are no faster this way; their workflows have been told.
        let Ok(Ok(_place)) = timeout(PATIENCE, self.ahead.acquire()).await else { return };
        let (request, place) = match self.authorizer.authorize_at(exec).await {
            Ok((Authorized::Run { request, .. }, Some(place))) => (request, place),
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%exec_id, %error, "left to the workflow");
                return;
            }
        };
        if request.intent != Intent::Run {
            return self.tell_recalled(exec, place);
        }
        let Place { executor_id, limits, image_digest, min_generation, .. } = place;
        let what = CallKind::Run { request };
        let call = Call {
            session_id,
            limits,
            image_digest,
            min_generation,
            token_id: None,
            what,
            timeout_ms: TAKE_MS,
        };
        let calls = self.calls.clone();
        // Nobody waits for its answer: the result is what counts.
        tokio::spawn(async move {
            if let Err(error) = calls.call(tenant_id, executor_id, call, None).await {
                tracing::debug!(%exec_id, %error, "left to the workflow");
            }
        });
    }

    /// Has its executor end an exec that was called off.
    pub(super) fn cancel_at_executor(&self, caller: &Caller, exec: &Exec) {
        let (app, caller) = (self.clone(), caller.clone());
        let (session_id, exec_id) = (exec.session_id, exec.id);
        tokio::spawn(async move {
            let what = CallKind::Cancel { exec_id };
            if let Err(error) = app.call(&caller, session_id, what, TAKE_MS, None).await {
                tracing::debug!(%exec_id, %error, "left to the workflow");
            }
        });
    }
}
