//! The activity `find_sandbox`: where the sandbox of a session is, whoever had it made: an exec that
//! its workflow carried out, one that went ahead, or a call for files.

use protocol::enrolment::executor_queue;
use protocol::session::SessionRef;

use super::{Activities, ActivityFailure};
use crate::home;
use crate::store::StoreError;

impl Activities {
    /// The queue of its executor. `None` when there is no sandbox, or no such session.
    pub(super) async fn find_sandbox(
        &self,
        session: SessionRef,
    ) -> Result<Option<String>, ActivityFailure> {
        let mut scope = self.store.tenant(session.tenant_id).await?;
        let home = match scope.get_session(session.session_id).await {
            Ok(session) => home::of(&session),
            Err(StoreError::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        drop(scope);
        let Some(home) = home else { return Ok(None) };
        let tenant = self.tenant_keys.get(session.tenant_id).await?;
        Ok(Some(executor_queue(&tenant.name, home.executor_id)))
    }
}
