//! `bulkhead audit`: what was decided and done, by whom.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::listing;
use crate::connection::{Caller, Connection};

/// Arguments of `bulkhead audit`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Audit events, oldest first.
    List {
        /// Only those with a higher sequence number.
        #[arg(long)]
        after: Option<u64>,
        /// Only those of this session.
        #[arg(long, value_name = "ID")]
        session: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// When the control plane refuses or cannot be reached.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    let client = connection.client(Caller::Reviewer)?;
    let Action::List { after, session } = arguments.action;
    let mut path = "/v1/audit/events?limit=200".to_owned();
    if let Some(after) = after {
        path += &format!("&after={after}");
    }
    if let Some(session) = session {
        path += &format!("&session_id={session}");
    }
    let items = listing::fetch(&client, &path).await?;
    let columns = ["seq", "time", "actor", "action", "object", "outcome"];
    listing::print(&items, connection.json, &columns)?;
    Ok(0)
}
