//! `bulkhead files`: what lies in a session's workspace, in and out.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{listing, transfer};
use crate::client::{Client, encode};
use crate::connection::{Caller, Connection};
use crate::files::RemotePath;

/// Entries of one page.
const PAGE: usize = 1000;
/// Entries of one folder that are shown at most.
const MAX_ENTRIES: usize = 1_000_000;

/// Arguments of `bulkhead files`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The session whose files they are.
    #[arg(long, global = true, value_name = "ID")]
    session: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a file, whole or not at all.
    Put {
        /// The file here; `-` is stdin.
        local: PathBuf,
        /// Its path in the workspace.
        remote: String,
        /// Its permissions in octal, such as 755.
        #[arg(long)]
        mode: Option<String>,
    },
    /// Read a file; a broken download leaves nothing.
    Get {
        /// Its path in the workspace.
        remote: String,
        /// Where to; `-` is stdout, and the same name in the current folder is the default.
        local: Option<PathBuf>,
    },
    /// The entries of a folder.
    Ls {
        /// The folder; the workspace by default.
        #[arg(default_value = "")]
        path: String,
    },
    /// What is known of a file, a folder or a link.
    Stat {
        /// Its path in the workspace.
        #[arg(default_value = "")]
        path: String,
    },
    /// Delete a file, a link or an empty folder.
    Rm {
        /// A folder with everything in it.
        #[arg(short, long)]
        recursive: bool,
        /// Its path in the workspace.
        path: String,
    },
    /// Make a folder and those on the way.
    Mkdir {
        /// Its path in the workspace.
        path: String,
    },
    /// Copy a folder into the workspace; links stay links, sockets and devices stay here.
    Upload {
        /// The folder here.
        dir: PathBuf,
        /// The folder there; the workspace by default.
        #[arg(default_value = "")]
        remote: String,
    },
    /// Copy a folder out of the workspace; an archive that is not safe to unpack is refused.
    Download {
        /// The folder there (the workspace by default), then the one here.
        #[arg(value_names = ["REMOTE", "DIR"], num_args = 1..=2, required = true)]
        paths: Vec<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// When the control plane refuses or cannot be reached, and when a file here is the problem.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    let session = arguments.session.context(
        "no session: name the one whose files are meant with --session ID \
         (`bulkhead sessions list` shows them)",
    )?;
    let client = connection.client(Caller::Agent)?;
    if let Action::Ls { path } = &arguments.action {
        list(&client, &session, &RemotePath::parse(path)?, connection.json).await?;
        return Ok(0);
    }
    let done = act(&client, &session, arguments.action).await?;
    if let Some(done) = done {
        listing::print_one(&done, connection.json)?;
    }
    Ok(0)
}

/// What to print about what was done; nothing when stdout has the file.
async fn act(client: &Client, session: &str, action: Action) -> Result<Option<Value>> {
    let done = match action {
        Action::Put { local, remote, mode } => {
            let remote = RemotePath::parse_entry(&remote)?;
            let query = mode.map(|mode| format!("mode={}", encode(&mode))).unwrap_or_default();
            transfer::put(client, &remote.url(session, &query), &local).await?
        }
        Action::Get { remote, local } => {
            let remote = RemotePath::parse_entry(&remote)?;
            let name = PathBuf::from(remote.name().unwrap_or_default());
            let local = match local {
                Some(folder) if folder.is_dir() => folder.join(name),
                Some(file) => file,
                None => name,
            };
            return transfer::get(client, &remote.url(session, ""), &local).await;
        }
        Action::Stat { path } => {
            let url = RemotePath::parse(&path)?.folder_url(session, "kind=stat");
            let mut answer: Value = client.get(&url).await?;
            readable(answer["entry"].take())
        }
        Action::Rm { recursive, path } => {
            let query = format!("recursive={recursive}");
            let url = RemotePath::parse_entry(&path)?.url(session, &query);
            client.json(client.request(reqwest::Method::DELETE, &url)).await?
        }
        Action::Mkdir { path } => {
            let url = RemotePath::parse_entry(&path)?.url(session, "kind=directory");
            client.json(client.request(reqwest::Method::PUT, &url)).await?
        }
        Action::Upload { dir, remote } => {
            let url = RemotePath::parse(&remote)?.folder_url(session, "kind=tar");
            transfer::upload(client, &url, &dir).await?
        }
        Action::Download { paths } => {
            let (remote, dir) = match paths.as_slice() {
                [dir] => ("", dir),
                [remote, dir] => (remote.as_str(), dir),
                _ => bail!("give the folder there, if it is not the workspace, and the one here"),
            };
            let url = RemotePath::parse(remote)?.folder_url(session, "kind=tar");
            transfer::download(client, &url, dir.as_ref()).await?
        }
        Action::Ls { .. } => Value::Null,
    };
    Ok(Some(done))
}

async fn list(client: &Client, session: &str, path: &RemotePath, json: bool) -> Result<()> {
    let mut entries: Vec<Value> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut query = format!("limit={PAGE}");
        if let Some(after) = &after {
            query.push_str(&format!("&after={}", encode(after)));
        }
        let mut page: Value = client.get(&path.folder_url(session, &query)).await?;
        let more = page["more"] == json!(true);
        let Value::Array(found) = page["entries"].take() else { break };
        let exact = |entry: &Value| entry["name_base64"].as_str().map(str::to_owned);
        let last = found
            .last()
            .and_then(|entry| exact(entry).or_else(|| entry["name"].as_str().map(str::to_owned)));
        entries.extend(found.into_iter().map(readable));
        // A server that repeats itself must not keep us here.
        if !more || last.is_none() || last == after {
            break;
        }
        if entries.len() >= MAX_ENTRIES {
            bail!("the folder has more than {MAX_ENTRIES} entries: list its parts");
        }
        after = last;
    }
    listing::print(&entries, json, &["kind", "mode", "bytes", "modified_at", "name", "target"])
}

/// An entry with its permissions and its time as people read them.
fn readable(mut entry: Value) -> Value {
    if let Some(mode) = entry["mode"].as_u64() {
        entry["mode"] = format!("{mode:04o}").into();
    }
    let time = entry["modified_at_ms"].as_i64().and_then(|ms| {
        let time = time::OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).ok()?;
        time.format(&time::format_description::well_known::Rfc3339).ok()
    });
    if let Some(time) = time {
        entry["modified_at"] = time.into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_shown_as_people_read_it() {
        let entry = readable(json!({"name": "a", "mode": 0o755, "modified_at_ms": 1000}));
        assert_eq!(entry["mode"], "0755");
        assert_eq!(entry["modified_at"], "1970-01-01T00:00:01Z");
    }
}
