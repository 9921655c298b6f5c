//! Calls to the executor that holds a session's sandbox.

use domain::access::Operation;
use domain::ids::SessionId;
use domain::session::SessionState;
use protocol::calls::{Call, CallKind};

use super::{App, AppError, Caller};
use crate::calls::{Answer, CallError, Pieces};
use crate::home;
use crate::store::Session;

/// A closed session has no sandbox to call.
///
/// # Errors
/// [`AppError::Conflict`] when it is closed.
pub(super) fn require_open(session: &Session) -> Result<(), AppError> {
    if session.state == SessionState::Open {
        return Ok(());
    }
    let message = "the session is closed, and its sandbox with it";
    Err(AppError::Conflict { code: "session_closed", message: message.into() })
}

/// Too many calls are under way already.
pub(super) fn too_many(message: String) -> AppError {
    AppError::TooMany { code: "too_many_calls", message }
}

impl App {
    /// Makes a call about a session that the caller may see. What the caller may do was checked.
    ///
    /// # Errors
    /// When the session is closed, has no executor, or its executor is away.
    pub(super) async fn call(
        &self,
        caller: &Caller,
        session_id: SessionId,
        what: CallKind,
        timeout_ms: u64,
        body: Option<Pieces>,
    ) -> Result<Answer, AppError> {
        let tenant_id = caller.authorize(Operation::ReadWork)?;
        let mut scope = self.store.tenant(tenant_id).await?;
        let session = scope.get_session(session_id).await.map_err(AppError::of("session"))?;
        require_open(&session)?;
        let home = home::find(&mut scope, &session, self.gone_after_s).await?.ok_or_else(|| {
            let message = "no executor of this tenant is there; start bulkhead-executor";
            AppError::ExecutorUnavailable(message.into())
        })?;
        scope.commit().await?;
        let call = Call {
            session_id,
            limits: session.limits,
            image_digest: home.image_digest,
            min_generation: home.min_generation,
            token_id: Some(caller.token_id),
            what,
            timeout_ms,
        };
        let answer = self.calls.call(tenant_id, home.executor_id, call, body).await;
        answer.map_err(|error| match error {
            CallError::Store(error) => error.into(),
            CallError::Busy | CallError::Share(_) => too_many(error.to_string()),
            CallError::Body => AppError::UnreadableBody(error.to_string()),
            CallError::Away | CallError::Broken => AppError::ExecutorUnavailable(error.to_string()),
        })
    }
}
