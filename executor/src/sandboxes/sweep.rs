//! Looks for what a crash or a failure left: containers, volumes, loop devices, image files and
//! folders that are ours by label or by place, and that nothing refers to. Each failure is logged
//! and comes up again with the next sweep; nothing of others is touched.
//!
//! What exists is always listed before what is in use, so that something made meanwhile is seen in
//! use or not at all.

use std::collections::HashSet;

use domain::ids::{SandboxId, SessionId};

use super::site::{DEVICE_SUFFIX, remove_tree, volume_owner};
use super::{Harbour, SandboxError};
use crate::clock::now_ms;

/// How long the closing of a session may take before the sweep finishes it.
const CLOSING_MS: u64 = 60_000;

impl Harbour {
    /// One round. Gives the number of leftovers removed.
    pub(super) async fn sweep(&self) -> usize {
        let mut removed = 0;
        removed += told("containers", self.sweep_containers().await);
        removed += told("volumes", self.sweep_volumes().await);
        removed += told("closed sessions", self.sweep_sessions().await);
        removed += told("workspaces", self.sweep_workspaces().await);
        removed += self.sweep_folder();
        if removed > 0 {
            tracing::info!(removed, "leftovers removed");
        }
        removed
    }

    async fn sweep_containers(&self) -> Result<usize, SandboxError> {
        let docker = &self.site.docker;
        let found = docker.list(self.site.executor_id).await.map_err(SandboxError::Docker)?;
        let mut removed = 0;
        for container in found {
            if container.sandbox_id.is_some_and(|id| self.inventory.has(id)) {
                continue;
            }
            removed += counted(&container.name, docker.remove(&container.id).await);
        }
        Ok(removed)
    }

    async fn sweep_volumes(&self) -> Result<usize, SandboxError> {
        let docker = &self.site.docker;
        let names = docker.list_volumes(self.site.executor_id).await;
        let mut removed = 0;
        for name in names.map_err(SandboxError::Docker)? {
            if volume_owner(&name).is_some_and(|id| self.inventory.has(id)) {
                continue;
            }
            removed += counted(&name, docker.remove_volume(&name).await);
        }
        Ok(removed)
    }

    /// Closed sessions whose workspace is still there: their closing was cut short.
    async fn sweep_sessions(&self) -> Result<usize, SandboxError> {
        let before = now_ms().saturating_sub(CLOSING_MS);
        let files: HashSet<_> = self.site.workspaces.list().into_iter().collect();
        let rows = self.site.journal.sessions().await.map_err(SandboxError::Journal)?;
        let overdue = rows.into_iter().filter(|(_, row)| {
            row.closed_at_ms.is_some_and(|closed| closed < before)
                && row.workspace.is_some_and(|workspace| files.contains(&workspace))
        });
        let overdue: Vec<SessionId> = overdue.map(|(session, _)| session).collect();
        for session in &overdue {
            self.remove(*session).await?;
        }
        Ok(overdue.len())
    }

    /// Workspaces that no journal row names, and devices of workspaces that no container uses.
    async fn sweep_workspaces(&self) -> Result<usize, SandboxError> {
        let workspaces = &self.site.workspaces;
        let (files, attached) = (workspaces.list(), workspaces.list_attached());
        let is_held = |id: &&_| workspaces.is_held(**id);
        let held: HashSet<_> = files.iter().chain(&attached).filter(is_held).copied().collect();
        let rows = self.site.journal.sessions().await.map_err(SandboxError::Journal)?;
        let known: HashSet<_> = rows.into_iter().filter_map(|(_, row)| row.workspace).collect();
        let mut removed = 0;
        for id in attached.into_iter().filter(|id| !held.contains(id)) {
            // A command may have come for it meanwhile.
            if !workspaces.is_held(id) {
                removed += counted("a loop device", workspaces.detach(id).await);
            }
        }
        for id in files.into_iter().filter(|id| !held.contains(id) && !known.contains(id)) {
            removed += counted("a workspace", workspaces.delete(id).await);
        }
        Ok(removed)
    }

    /// Folders of sockets and names of devices.
    fn sweep_folder(&self) -> usize {
        let Ok(entries) = std::fs::read_dir(self.site.executor_folder()) else { return 0 };
        let mut removed = 0;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let id = name.strip_suffix(DEVICE_SUFFIX).unwrap_or(name).parse::<SandboxId>();
            if id.is_ok_and(|id| self.inventory.has(id)) {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path());
            } else {
                let _ = std::fs::remove_file(entry.path());
            }
            removed += 1;
        }
        removed
    }
}

fn told(what: &str, swept: Result<usize, SandboxError>) -> usize {
    swept.unwrap_or_else(|error| {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, what, "the sweep could not look");
        0
    })
}

fn counted<E: std::error::Error>(what: &str, removed: Result<(), E>) -> usize {
    match removed {
        Ok(()) => 1,
        Err(error) => {
            tracing::warn!(%error, what, "a leftover stays for now");
            0
        }
    }
}
