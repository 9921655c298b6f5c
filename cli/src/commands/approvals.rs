//! `bulkhead approvals`: what waits for a human, and the human's answer.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::listing;
use crate::client::{Approval, Client};
use crate::connection::{Caller, Connection};
use crate::console;

/// Arguments of `bulkhead approvals`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What waits for an answer.
    List {
        /// Also what was answered, with this state.
        #[arg(long, default_value = "pending")]
        state: String,
    },
    /// One approval with the whole command.
    Show {
        /// Its id.
        id: String,
    },
    /// Let the command run.
    Approve(Answer),
    /// Refuse the command.
    Deny(Answer),
}

#[derive(Debug, Args)]
struct Answer {
    /// The approval's id.
    id: String,
    /// Why; it goes into the audit log, and a refusal's is shown to the agent.
    #[arg(long)]
    reason: Option<String>,
    /// Whether the answer also holds for the same command later in the session.
    #[arg(long, value_enum, default_value_t = Scope::Once)]
    scope: Scope,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scope {
    Once,
    Session,
}

/// Runs the command.
///
/// # Errors
/// When the control plane refuses or cannot be reached.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    let client = connection.client(Caller::Reviewer)?;
    let document: Value = match arguments.action {
        Action::List { state } => {
            let path = format!("/v1/approvals?state={state}");
            let items = listing::fetch(&client, &path).await?;
            let columns = ["approval_id", "session_id", "state", "created_at", "command"];
            listing::print(&items, connection.json, &columns)?;
            return Ok(0);
        }
        Action::Show { id } => client.get(&format!("/v1/approvals/{id}")).await?,
        Action::Approve(answer) => {
            return decide(&client, "approve", answer, connection.json).await;
        }
        Action::Deny(answer) => return decide(&client, "deny", answer, connection.json).await,
    };
    listing::print_one(&document, connection.json)?;
    Ok(0)
}

async fn decide(client: &Client, decision: &str, answer: Answer, json: bool) -> Result<u8> {
    let scope = match answer.scope {
        Scope::Once => "once",
        Scope::Session => "session",
    };
    let mut body = json!({"decision": decision, "scope": scope});
    if let Some(reason) = answer.reason {
        body["reason"] = reason.into();
    }
    let path = format!("/v1/approvals/{}/decision", answer.id);
    let approval: Approval = client.post(&path, &body).await?;
    if json {
        console::print_json(&approval)?;
    } else {
        let command = console::printable(&approval.command);
        console::print(format_args!("{} {}: {command}", approval.state, approval.approval_id))?;
    }
    Ok(0)
}
