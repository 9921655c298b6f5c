//! `bulkhead sessions`.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::listing;
use crate::client::{NewSession, encode};
use crate::connection::{Caller, Connection};

/// Arguments of `bulkhead sessions`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every session of the tenant.
    List,
    /// One session.
    Show {
        /// Its id.
        id: String,
    },
    /// Create a session and print its id.
    Create {
        /// What people call it.
        #[arg(long)]
        name: Option<String>,
        /// Model slug for its turns.
        #[arg(long)]
        model: Option<String>,
        /// How it treats what policy says: policy, ask-all, deny-asks or read-only.
        #[arg(long, value_name = "MODE")]
        approval_mode: Option<String>,
        /// What it is for, such as production; policies may ask.
        #[arg(long, value_name = "NAME")]
        environment: Option<String>,
    },
    /// What the audit log has about a session, in order; as --json with digests and details.
    Evidence {
        /// Its id.
        id: String,
    },
    /// Close a session; its sandbox goes away.
    Close {
        /// Its id.
        id: String,
    },
}

/// Runs the command.
///
/// # Errors
/// When the control plane refuses or cannot be reached.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    let caller = match &arguments.action {
        Action::Evidence { .. } => Caller::Reviewer,
        _ => Caller::Agent,
    };
    let client = connection.client(caller)?;
    match arguments.action {
        Action::List => {
            let items = listing::fetch(&client, "/v1/sessions").await?;
            listing::print(
                &items,
                connection.json,
                &["session_id", "name", "state", "created_at"],
            )?;
        }
        Action::Show { id } => {
            let session: Value = client.get(&format!("/v1/sessions/{id}")).await?;
            listing::print_one(&session, connection.json)?;
        }
        Action::Create { name, model, approval_mode, environment } => {
            let new =
                NewSession { name, model, approval_mode, environment, ..NewSession::default() };
            let session = client.create_session(&new).await?;
            if connection.json {
                crate::console::print_json(&session)?;
            } else {
                crate::console::print(session.session_id)?;
            }
        }
        Action::Evidence { id } => {
            let items = listing::fetch(
                &client,
                &format!("/v1/sessions/{}/evidence?limit=200", encode(&id)),
            )
            .await?;
            listing::print(
                &items,
                connection.json,
                &["seq", "time", "kind", "actor", "action", "object", "outcome"],
            )?;
        }
        Action::Close { id } => {
            client.close_session(&id).await?;
            listing::print_one(&json!({"session_id": id, "state": "closing"}), connection.json)?;
        }
    }
    Ok(0)
}
