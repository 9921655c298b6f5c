//! Files of a workspace. The work is done inside the sandbox, as the tenant's user; here it is
//! authorised, written down, and refused early where that is plain.

use domain::access::Operation;
use domain::ids::SessionId;
use protocol::calls::{CallKind, CallReply};
use protocol::files::{FileReply, FileRequest, MAX_NAME_BYTES, MAX_PATH_BYTES};
use serde_json::{Value, json};

use super::calls::{require_open, too_many};
use super::{App, AppError, Caller};
use crate::calls::{Answer, Pieces};
use crate::ids;
use crate::outcome::files::{DELETE, GET, GET_ARCHIVE, MKDIR, PUT, PUT_ARCHIVE, TIMEOUT_MS};
use crate::store::OpenFileCall;

impl App {
    /// Does a piece of work on files. Gives what came of it, and the bytes that follow, if any.
    ///
    /// # Errors
    /// When the caller may not, the path is not one, the sandbox refuses, or the executor is away.
    pub async fn work_on_files(
        &self,
        caller: &Caller,
        session_id: SessionId,
        request: FileRequest,
        body: Option<Pieces>,
    ) -> Result<(FileReply, Pieces), AppError> {
        let plan = Plan::of(&request);
        check_path(plan.path, plan.may_be_root)?;
        let mut scope = caller.open(self, plan.operation).await?;
        let session = scope.get_session(session_id).await.map_err(AppError::of("session"))?;
        require_open(&session)?;
        let path = plan.path.to_owned();
        let mut audited = None;
        if let Some(action) = plan.audited {
            // Before it happens: what is not on record is not done.
            let id = ids::new();
            let (token_id, path) = (caller.token_id, path.clone());
            let detail = json!({ "path": path, "call": id });
            let call = OpenFileCall { id, session_id, token_id, action: action.into(), path };
            scope.open_file_call(&call).await?;
            audited = Some((action, id));
            let mut entry =
                caller.session_entry(action, session_id.to_string(), session_id, detail);
            entry.outcome = "requested";
            scope.append_audit(entry);
            scope.commit().await?;
        }
        let answer =
            self.call(caller, session_id, CallKind::Files(request), TIMEOUT_MS, body).await;
        let is_unknown = may_be_done(&answer);
        let outcome = answer.and_then(|answer| match answer.reply {
            CallReply::Files(reply) => Ok((reply, answer.rest)),
            CallReply::FilesRefused(error) => Err(AppError::Files(error)),
            CallReply::Busy(message) => Err(too_many(message)),
            CallReply::Unavailable(message) => Err(AppError::ExecutorUnavailable(message)),
            _ => Err(AppError::ExecutorUnavailable("the executor's answer makes no sense".into())),
        });
        if let Some((action, id)) = audited {
            let (word, detail) = match &outcome {
                Ok((reply, _)) => {
                    ("ok", json!({ "path": path, "call": id, "result": summary(reply) }))
                }
                Err(error) => {
                    let word = if is_unknown { "unknown" } else { "refused" };
                    (word, json!({ "path": path, "call": id, "error": error.to_string() }))
                }
            };
            let mut scope = caller.open(self, Operation::ReadWork).await?;
            if !scope.close_file_call(id).await? {
                // It has its outcome, and has one only.
                tracing::error!(call = %id, outcome = word, "it had been closed as unknown before");
                return outcome;
            }
            let mut entry =
                caller.session_entry(action, session_id.to_string(), session_id, detail);
            entry.outcome = word;
            scope.append_audit(entry);
            scope.commit().await?;
        }
        outcome
    }
}

/// Whether nobody can tell that it was done or that it was not.
fn may_be_done(answer: &Result<Answer, AppError>) -> bool {
    use CallReply::{Busy, Files, FilesRefused, Unavailable};
    match answer {
        Ok(answer) => {
            !matches!(answer.reply, Files(_) | FilesRefused(_) | Unavailable(_) | Busy(_))
        }
        // These come before anything is asked of the executor, or before it has all of the body.
        Err(AppError::Conflict { .. } | AppError::TooMany { .. } | AppError::UnreadableBody(_)) => {
            false
        }
        Err(_) => true,
    }
}

/// What a request is, as far as this side is concerned.
struct Plan<'a> {
    path: &'a str,
    /// The empty path stands for the workspace.
    may_be_root: bool,
    operation: Operation,
    audited: Option<&'static str>,
}

impl<'a> Plan<'a> {
    fn of(request: &'a FileRequest) -> Self {
        use FileRequest as R;
        let (path, may_be_root, audited) = match request {
            R::Put { path, .. } => (path, false, Some(PUT)),
            R::Get { path, .. } => (path, false, Some(GET)),
            R::Mkdir { path } => (path, false, Some(MKDIR)),
            R::Delete { path, .. } => (path, false, Some(DELETE)),
            R::PutArchive { path, .. } => (path, true, Some(PUT_ARCHIVE)),
            R::GetArchive { path, .. } => (path, true, Some(GET_ARCHIVE)),
            R::Stat { path } => (path, true, None),
            R::List { path, .. } => (path, true, None),
        };
        let operation = match request {
            R::Get { .. } | R::GetArchive { .. } | R::Stat { .. } | R::List { .. } => {
                Operation::ReadWork
            }
            _ => Operation::Work,
        };
        Self { path, may_be_root, operation, audited }
    }
}

/// A reply without names and bytes.
fn summary(reply: &FileReply) -> Value {
    serde_json::to_value(reply).unwrap_or_default()
}

/// Refuses what is no path below the workspace, whatever is there.
fn check_path(path: &str, may_be_root: bool) -> Result<(), AppError> {
    let refuse = |code, message: &str| Err(AppError::BadPath { code, message: message.into() });
    if path.is_empty() {
        return match may_be_root {
            true => Ok(()),
            false => refuse("invalid_path", "the path is empty: name a file below /work"),
        };
    }
    if path.len() > MAX_PATH_BYTES || path.split('/').any(|name| name.len() > MAX_NAME_BYTES) {
        let message = format!("a path has at most {MAX_PATH_BYTES} bytes, a name {MAX_NAME_BYTES}");
        return refuse("invalid_path", &message);
    }
    if path.contains('\0') {
        return refuse("invalid_path", "the path contains a NUL character");
    }
    if path.starts_with('/') || path.split('/').any(|name| name == "..") {
        let message = "paths are relative to the workspace /work, without `..`";
        return refuse("path_outside", message);
    }
    if path.split('/').all(|name| name.is_empty() || name == ".") && !may_be_root {
        return refuse("invalid_path", "the path names the workspace itself: name a file below it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_the_workspace_pass() {
        for path in ["a", "a/b", "-rf", "$(id)", "a\nb", "CON", "\u{202e}x", "a..b", ".hidden"] {
            assert!(check_path(path, false).is_ok(), "{path:?}");
        }
        let long = "a".repeat(300);
        for path in ["", ".", "./", "..", "../x", "a/../b", "/abs", "a\0b", long.as_str()] {
            assert!(check_path(path, false).is_err(), "{path:?}");
        }
        assert!(check_path("", true).is_ok());
    }
}
