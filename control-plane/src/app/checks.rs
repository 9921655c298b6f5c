//! What a command may look like, whoever asks for it: a client or a model.

use std::collections::BTreeMap;

use domain::limits;
use domain::session::SessionState;

use super::AppError;
use crate::store::{Scope, Session};

/// Checks the text of a command.
///
/// # Errors
/// See [`AppError`].
pub fn check_command(command: &str) -> Result<(), AppError> {
    if command.len() > limits::MAX_COMMAND_BYTES {
        return Err(AppError::TooLarge {
            code: "command_too_large",
            message: format!(
                "command is {} bytes; the limit is {}. Put long scripts into a file",
                command.len(),
                limits::MAX_COMMAND_BYTES
            ),
        });
    }
    if command.is_empty() || command.contains('\0') {
        return Err(AppError::invalid(
            "invalid_command",
            "command must not be empty or contain a NUL character",
        ));
    }
    Ok(())
}

/// Checks a working directory.
///
/// # Errors
/// See [`AppError`].
pub fn check_cwd(cwd: &str) -> Result<(), AppError> {
    let is_below = |root: &str| {
        cwd.strip_prefix(root).is_some_and(|rest| matches!(rest.chars().next(), None | Some('/')))
    };
    let is_plain = cwd.len() <= limits::MAX_CWD_BYTES
        && !cwd.contains('\0')
        && cwd.split('/').all(|name| name != "..");
    if is_plain && (is_below("/work") || is_below("/tmp")) {
        return Ok(());
    }
    Err(AppError::invalid(
        "invalid_cwd",
        "cwd must be an absolute path, /work or /tmp or below them, without `..`",
    ))
}

/// Checks variables.
///
/// # Errors
/// See [`AppError`].
pub fn check_env(env: &BTreeMap<String, String>) -> Result<(), AppError> {
    let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if env.len() > limits::MAX_ENV_ENTRIES || bytes > limits::MAX_ENV_BYTES {
        return Err(AppError::TooLarge {
            code: "env_too_large",
            message: format!(
                "env is over {} variables or {} bytes",
                limits::MAX_ENV_ENTRIES,
                limits::MAX_ENV_BYTES
            ),
        });
    }
    let is_name = |name: &str| {
        name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if env.iter().all(|(name, value)| is_name(name) && !value.contains('\0')) {
        return Ok(());
    }
    Err(AppError::invalid(
        "invalid_env",
        "env names must be letters, digits and underscores, and values free of NUL characters",
    ))
}

/// Checks that a session takes more work. Gives how much is unfinished.
///
/// # Errors
/// When it is closed or has too much unfinished work already.
pub async fn check_open(scope: &mut Scope, session: &Session) -> Result<i64, AppError> {
    if session.state != SessionState::Open {
        return Err(AppError::Conflict {
            code: "session_closed",
            message: "the session is closed; create another one".into(),
        });
    }
    let open_work = scope.count_open_work(session.id).await?;
    if open_work >= limits::MAX_OPEN_WORK {
        return Err(AppError::TooMany {
            code: "too_much_open_work",
            message: format!(
                "the session has {} unfinished turns and execs; wait for some of them",
                limits::MAX_OPEN_WORK
            ),
        });
    }
    Ok(open_work)
}
