//! `bulkhead tenants`, for who holds the platform token.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::listing;
use crate::connection::{Caller, Connection};

/// Arguments of `bulkhead tenants`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a tenant; prints it with its first owner token, shown this once.
    Create {
        /// Its name.
        name: String,
    },
    /// Every tenant.
    List,
}

/// Runs the command.
///
/// # Errors
/// When the control plane refuses or cannot be reached.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    let client = connection.client(Caller::Platform)?;
    match arguments.action {
        Action::Create { name } => {
            let tenant: Value = client.post("/v1/tenants", &json!({"name": name})).await?;
            listing::print_one(&tenant, connection.json)?;
        }
        Action::List => {
            let items = listing::fetch(&client, "/v1/tenants").await?;
            listing::print(&items, connection.json, &["tenant_id", "name", "created_at"])?;
        }
    }
    Ok(0)
}
