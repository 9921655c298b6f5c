//! Who may change files of a session's workspace beside its scripts: clients and a model's tools, but
//! not while git rests on what was seen of a repository.

use std::sync::Arc;

use protocol::exec::{ExecKind, ExecOrder};
use protocol::tools::ToolCall;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The workspace of one sandbox. Whoever came first is let through first.
#[derive(Default)]
pub(crate) struct Files(Arc<RwLock<()>>);

/// What an exec has to do with the files of its workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileUse {
    /// Nothing that others would have to know.
    #[default]
    Free,
    /// It changes files beside the scripts.
    Changes,
    /// It rests on what was seen of them: nobody may change any.
    Keeps,
}

impl FileUse {
    /// Of an order that reads with disarmed git in `git_folders`.
    pub(crate) fn of(order: &ExecOrder, git_folders: &[String]) -> Self {
        let writes = || ToolCall::from_text(&order.command).is_ok_and(|call| call.writes());
        if !git_folders.is_empty() {
            Self::Keeps
        } else if order.kind == ExecKind::Tool && writes() {
            Self::Changes
        } else {
            Self::Free
        }
    }
}

/// Kept until what it is for is over.
pub(crate) enum Hold {
    /// No matter what others do.
    Nothing,
    /// Changes files; others may at the same time.
    Changes { _guard: OwnedRwLockReadGuard<()> },
    /// Nobody changes files.
    Keeps { _guard: OwnedRwLockWriteGuard<()> },
}

impl Files {
    /// Waits until what `use_of_files` says may be done.
    pub(crate) fn take(&self, use_of_files: FileUse) -> impl Future<Output = Hold> + Send + use<> {
        let files = Arc::clone(&self.0);
        async move {
            match use_of_files {
                FileUse::Free => Hold::Nothing,
                FileUse::Changes => Hold::Changes { _guard: files.read_owned().await },
                FileUse::Keeps => Hold::Keeps { _guard: files.write_owned().await },
            }
        }
    }

    /// What an exec of an earlier life still has: it runs on, and nobody else has begun yet. `None`
    /// when others are there, which never held it at the same time.
    pub(crate) fn take_back(&self, use_of_files: FileUse) -> Option<Hold> {
        let files = Arc::clone(&self.0);
        match use_of_files {
            FileUse::Free => Some(Hold::Nothing),
            FileUse::Changes => files.try_read_owned().ok().map(|_guard| Hold::Changes { _guard }),
            FileUse::Keeps => files.try_write_owned().ok().map(|_guard| Hold::Keeps { _guard }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::limits::SandboxLimits;
    use futures::FutureExt as _;
    use uuid::Uuid;

    fn order(kind: ExecKind, command: &str) -> ExecOrder {
        ExecOrder {
            tenant_id: Uuid::from_u128(1).into(),
            session_id: Uuid::from_u128(2).into(),
            exec_id: Uuid::from_u128(3).into(),
            kind,
            command: command.into(),
            cwd: "/work".into(),
            env: [].into(),
            stdin: None,
            stdin_open: false,
            terminal: None,
            min_generation: 1,
            checks: Default::default(),
            timeout_ms: 1000,
            limits: SandboxLimits::default(),
            image_digest: "sha256:0".into(),
        }
    }

    #[test]
    fn files_stay_as_they_are_while_git_reads() {
        let files = Files::default();
        let git = order(ExecKind::Shell, "git status");
        let folders = ["/work".to_owned()];
        let patch = order(ExecKind::Tool, "apply_patch\n*** Begin Patch\n*** End Patch\n");
        let look = order(ExecKind::Tool, "list_dir {\"dir_path\":\"/work\"}");
        let run =
            |order, folders: &[String]| files.take(FileUse::of(order, folders)).now_or_never();
        let held = run(&git, &folders).expect("nobody is there");
        assert!(files.take(FileUse::Changes).now_or_never().is_none());
        assert!(run(&patch, &[]).is_none());
        assert!(run(&look, &[]).is_some());
        assert!(run(&git, &[]).is_some());
        drop(held);
        let first = files.take(FileUse::Changes).now_or_never().expect("git is done");
        let second = run(&patch, &[]).expect("they may both");
        assert!(run(&git, &folders).is_none());
        drop((first, second));
        assert!(run(&git, &folders).is_some());
    }

    #[test]
    fn what_runs_on_is_taken_back_before_others_come() {
        let files = Files::default();
        let kept = files.take_back(FileUse::Keeps).expect("nobody is there");
        assert!(files.take(FileUse::Changes).now_or_never().is_none());
        assert!(files.take_back(FileUse::Changes).is_none());
        assert!(files.take_back(FileUse::Free).is_some());
        drop(kept);
        let one = files.take_back(FileUse::Changes).expect("nobody is there");
        let other = files.take_back(FileUse::Changes).expect("they may both");
        assert!(files.take_back(FileUse::Keeps).is_none());
        drop((one, other));
        assert!(files.take_back(FileUse::Keeps).is_some());
    }
}
