//! The activity `authorize`: what the authorizer says. An exec that somebody was ahead with is
//! given a moment to end by itself: then there is nothing left to ask of its executor.

use std::time::Duration;

use protocol::session::{Authorized, ExecRef};
use tokio::time::timeout;

use super::{Activities, ActivityFailure};

/// How long an exec may take that its workflow need not join.
const MOMENT: Duration = Duration::from_millis(150);

impl Activities {
    pub(super) async fn authorize(&self, exec: ExecRef) -> Result<Authorized, ActivityFailure> {
        let (authorized, place) = self.authorizer.authorize_at(exec).await?;
        if !place.is_some_and(|place| place.ahead) {
            return Ok(authorized);
        }
        match timeout(MOMENT, self.wait_for_end(exec)).await {
            Ok(Ok(())) => Ok(Authorized::Settled),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Ok(authorized),
        }
    }

    async fn wait_for_end(&self, exec: ExecRef) -> Result<(), ActivityFailure> {
        let mut news = self.hub.subscribe(exec.session_id);
        loop {
            let mut scope = self.store.tenant(exec.tenant_id).await?;
            if scope.get_exec(exec.exec_id).await?.state.is_terminal() {
                return Ok(());
            }
            drop(scope);
            // The hub lives as long as we do.
            let _ = news.changed().await;
        }
    }
}
