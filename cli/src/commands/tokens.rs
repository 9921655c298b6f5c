//! `bulkhead tokens`: who may call as whom.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::listing;
use crate::arguments::duration;
use crate::connection::{Caller, Connection};
use crate::console;

/// Arguments of `bulkhead tokens`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a token and print it, this once.
    Create {
        /// What people call it.
        name: String,
        /// owner, agent, reviewer, viewer or executor.
        #[arg(long)]
        role: String,
        /// How long it is good for, such as 12h or 30d.
        #[arg(long, value_parser = duration)]
        expires_in: Option<Duration>,
    },
    /// The tenant's tokens, without the secrets.
    List,
    /// Make a token useless at once.
    Revoke {
        /// Its id.
        id: String,
    },
}

/// Runs the command.
///
/// # Errors
/// When the control plane refuses or cannot be reached.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    let client = connection.client(Caller::Owner)?;
    match arguments.action {
        Action::Create { name, role, expires_in } => {
            let mut body = json!({"name": name, "role": role});
            if let Some(expires_in) = expires_in {
                body["expires_in_s"] = expires_in.as_secs().into();
            }
            let token: Value = client.post("/v1/tokens", &body).await?;
            if connection.json {
                console::print_json(&token)?;
            } else {
                console::print(token["token"].as_str().unwrap_or_default())?;
            }
        }
        Action::List => {
            let items = listing::fetch(&client, "/v1/tokens").await?;
            let columns = ["token_id", "name", "role", "expires_at", "revoked_at"];
            listing::print(&items, connection.json, &columns)?;
        }
        Action::Revoke { id } => {
            client.delete(&format!("/v1/tokens/{id}")).await?;
            listing::print_one(&json!({"token_id": id, "state": "revoked"}), connection.json)?;
        }
    }
    Ok(0)
}
