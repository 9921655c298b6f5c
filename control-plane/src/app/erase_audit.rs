//! Erasure of details of the audit log at the owner's word. What happened, when, and by which token
//! stays, and so does the proof of it.

use domain::access::Operation;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{App, AppError, Caller};
use crate::store::{Erased, ErasureScope};

/// Events whose details are erased in one transaction.
pub const ERASED_AT_ONCE: i64 = 5000;

impl App {
    /// Erases details, of at most 5000 events; on record in the same transaction. A checkpoint is
    /// made before, so that everything until now can go.
    ///
    /// # Errors
    /// When the caller may not, there is no such object, its exec is not over, or nothing can be
    /// signed.
    pub async fn erase_audit(
        &self,
        caller: &Caller,
        what: ErasureScope,
    ) -> Result<Erased, AppError> {
        let tenant_id = caller.authorize(Operation::ManageAudit)?;
        let mut scope = caller.open(self, Operation::ManageAudit).await?;
        let (object, session_id, kind) = match what {
            ErasureScope::Exec(id) => {
                let exec = scope.get_exec(id).await.map_err(AppError::of("exec"))?;
                if !exec.state.is_terminal() {
                    return Err(AppError::Conflict {
                        code: "exec_not_finished",
                        message: "this exec is not over, and its details are still needed; cancel \
                                  it or wait for its end"
                            .into(),
                    });
                }
                (id.to_string(), Some(exec.session_id), "exec")
            }
            ErasureScope::Session(id) => {
                scope.get_session(id).await.map_err(AppError::of("session"))?;
                (id.to_string(), Some(id), "session")
            }
            ErasureScope::Before(time) if time > OffsetDateTime::now_utc() => {
                return Err(AppError::invalid("invalid_erasure", "before must not be to come"));
            }
            ErasureScope::Before(_) => (tenant_id.to_string(), None, "before"),
        };
        drop(scope);
        self.checkpointer.prove(&tenant_id.to_string()).await?;
        let mut scope = caller.open(self, Operation::ManageAudit).await?;
        let done = scope.erase_audit(what, ERASED_AT_ONCE).await?;
        let detail = json!({
            "scope": kind, "before": before(what), "erased": done.erased, "kept": done.kept,
        });
        let mut entry = caller.entry("audit.erase", object, detail);
        entry.session_id = session_id;
        scope.append_audit(entry);
        scope.commit().await?;
        Ok(done)
    }
}

/// The time in question, as text.
pub(crate) fn before(what: ErasureScope) -> Option<String> {
    match what {
        ErasureScope::Before(time) => time.format(&Rfc3339).ok(),
        ErasureScope::Exec(_) | ErasureScope::Session(_) => None,
    }
}
