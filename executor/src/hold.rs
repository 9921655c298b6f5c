//! Who may change files of a session's workspace beside its scripts: clients and a model's tools, but
//! not while git rests on what was seen of a repository.

use std::sync::Arc;

use protocol::exec::{ExecKind, ExecOrder};
use protocol::tools::ToolCall;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The workspace of one sandbox. Whoever came first is let through first.
#[derive(Default)]
pub(crate) struct Files(Arc<RwLock<()>>);

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
    /// To change files.
    pub(crate) async fn change(&self) -> Hold {
        Hold::Changes { _guard: Arc::clone(&self.0).read_owned().await }
    }

    /// To run an order, which reads with disarmed git in `git_folders`.
    pub(crate) async fn run(&self, order: &ExecOrder, git_folders: &[String]) -> Hold {
        let changes = || ToolCall::from_text(&order.command).is_ok_and(|call| call.writes());
        if !git_folders.is_empty() {
            Hold::Keeps { _guard: Arc::clone(&self.0).write_owned().await }
        } else if order.kind == ExecKind::Tool && changes() {
            self.change().await
        } else {
            Hold::Nothing
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
        let held = files.run(&git, &folders).now_or_never().expect("nobody is there");
        assert!(files.change().now_or_never().is_none());
        assert!(files.run(&patch, &[]).now_or_never().is_none());
        assert!(files.run(&look, &[]).now_or_never().is_some());
        assert!(files.run(&git, &[]).now_or_never().is_some());
        drop(held);
        let first = files.change().now_or_never().expect("git is done");
        let second = files.run(&patch, &[]).now_or_never().expect("they may both");
        assert!(files.run(&git, &folders).now_or_never().is_none());
        drop((first, second));
        assert!(files.run(&git, &folders).now_or_never().is_some());
    }
}
