//! `dev.json`: how clients find what `bulkhead dev` runs, and as whom they may talk to it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where `bulkhead dev` keeps its data unless told otherwise, in the current folder.
pub const DEFAULT_DATA_DIR: &str = ".bulkhead";

/// What `dev.json` holds. It is there only while everything is ready.
#[derive(Clone, Serialize, Deserialize)]
pub struct DevFile {
    /// The HTTP API.
    pub api_url: String,
    /// The web console, once there is one.
    pub console_url: Option<String>,
    /// The Codex app-server, once there is one.
    pub codex_url: Option<String>,
    /// The MCP server, once there is one.
    pub mcp_url: Option<String>,
    /// The Temporal server.
    pub temporal_address: String,
    /// Postgres, as the control plane's role.
    pub database_url: String,
    /// Manages tenants.
    pub platform_token: String,
    /// Each tenant's tokens.
    pub tenants: BTreeMap<String, TenantTokens>,
    /// Process id of `bulkhead dev`.
    pub pid: u32,
    /// Process ids of what it started, by name.
    pub pids: BTreeMap<String, u32>,
}

/// A tenant's tokens, one for each role that a person or an agent has.
#[derive(Clone, Serialize, Deserialize)]
pub struct TenantTokens {
    /// Everything inside the tenant.
    pub owner_token: String,
    /// Sessions and execs.
    pub agent_token: String,
    /// Approvals and audit.
    pub reviewer_token: String,
    /// Looks only.
    pub viewer_token: String,
}

impl DevFile {
    /// The file inside a data folder.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("dev.json")
    }

    /// Reads the file of a data folder; none when nothing is ready there.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn find(data_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(Self::path(data_dir)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Writes the file so that a reader sees all of it or none.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        write_secret(&Self::path(data_dir), &text)
    }

    /// Removes the file, if it is there.
    ///
    /// # Errors
    /// When it is there and stays.
    pub fn remove(data_dir: &Path) -> io::Result<()> {
        match fs::remove_file(Self::path(data_dir)) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => Err(problem),
            _ => Ok(()),
        }
    }
}

/// Writes a file for our own eyes, whole or not at all.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_secret(path: &Path, text: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // A leftover would keep its own mode.
    let _ = fs::remove_file(&fresh);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_exactly_the_promised_keys() {
        let tokens = TenantTokens {
            owner_token: "o".into(),
            agent_token: "a".into(),
            reviewer_token: "r".into(),
            viewer_token: "v".into(),
        };
        let file = DevFile {
            api_url: "http://127.0.0.1:1".into(),
            console_url: None,
            codex_url: None,
            mcp_url: None,
            temporal_address: "http://127.0.0.1:2".into(),
            database_url: "postgres://x".into(),
            platform_token: "p".into(),
            tenants: BTreeMap::from([("acme".into(), tokens)]),
            pid: 1,
            pids: BTreeMap::from([("worker".into(), 2)]),
        };
        let json = serde_json::to_value(&file).expect("json");
        let mut keys: Vec<_> = json.as_object().expect("object").keys().cloned().collect();
        keys.sort();
        assert_eq!(
            keys,
            [
                "api_url",
                "codex_url",
                "console_url",
                "database_url",
                "mcp_url",
                "pid",
                "pids",
                "platform_token",
                "temporal_address",
                "tenants",
            ]
        );
        assert_eq!(json["tenants"]["acme"]["viewer_token"], "v");
        assert!(json["console_url"].is_null());
    }
}
