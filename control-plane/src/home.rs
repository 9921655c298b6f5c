//! Where a session's sandbox is. Chosen with its first work and then kept: an exec that two
//! executors could take could be started twice. Whoever chooses puts it on record.

use domain::ids::ExecutorId;
use serde_json::json;

use crate::store::{AuditEntry, Executor, Scope, Session, StoreError};

/// See the module.
#[derive(Debug, Clone)]
pub struct Home {
    /// The executor that holds the sandbox.
    pub executor_id: ExecutorId,
    /// What it is made of.
    pub image_digest: String,
    /// Lowest generation that it may have.
    pub min_generation: u32,
}

/// The session's home, chosen now if there was none. `None` while the tenant has no executor.
///
/// A home that has not been heard of for `gone_after_s` seconds is given up when another executor
/// is there: the session gets a new, empty sandbox of a later generation.
///
/// # Errors
/// When the database fails.
pub async fn find(
    scope: &mut Scope,
    session: &Session,
    gone_after_s: f64,
) -> Result<Option<Home>, StoreError> {
    let home = of(session);
    if let Some(home) = &home
        && scope.heard_of_executor(home.executor_id, gone_after_s).await?
    {
        return Ok(Some(home.clone()));
    }
    let newest = scope.newest_executor(gone_after_s).await?;
    match (home, newest) {
        (None, None) => Ok(None),
        // Nobody could take over: it may come back.
        (Some(home), None) => Ok(Some(home)),
        (None, Some(newest)) => {
            if scope.pin_session(session.id, newest.id, &newest.image_digest).await? {
                scope.append_audit(entry("sandbox.place", session, None, &newest));
            }
            // Two first commands at once: whoever came first has chosen.
            Ok(of(&scope.get_session(session.id).await?))
        }
        (Some(old), Some(newest)) => {
            let from = old.executor_id;
            if scope.move_session(session.id, from, newest.id, &newest.image_digest).await? {
                scope.append_audit(entry("sandbox.move", session, Some(from), &newest));
            }
            tracing::warn!(session_id = %session.id, %from, to = %newest.id, "moved");
            Ok(of(&scope.get_session(session.id).await?))
        }
    }
}

fn entry(
    action: &'static str,
    session: &Session,
    from: Option<ExecutorId>,
    to: &Executor,
) -> AuditEntry {
    AuditEntry {
        session_id: Some(session.id),
        detail: json!({
            "executor_id": to.id, "image_digest": to.image_digest, "from_executor_id": from,
        }),
        ..AuditEntry::by_part("control-plane", action, session.id)
    }
}

/// The home that a session has, if it has one.
pub fn of(session: &Session) -> Option<Home> {
    Some(Home {
        executor_id: session.executor_id?,
        image_digest: session.image_digest.clone()?,
        min_generation: session.min_generation,
    })
}
