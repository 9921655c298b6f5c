//! `bulkhead approvals`: what waits for a human, and the human's answer.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{approval_text, listing};
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
    /// Propose a rule that would have allowed the command, and show what else it would admit.
    Propose {
        /// The approval's id.
        id: String,
    },
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
    /// The same as `--scope session`.
    #[arg(long, conflicts_with = "scope")]
    session: bool,
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
    let json = connection.json;
    match arguments.action {
        Action::List { state } => {
            let path = format!("/v1/approvals?state={state}");
            let items = listing::fetch(&client, &path).await?;
            let columns = ["approval_id", "session_id", "state", "created_at", "command"];
            listing::print(&items, json, &columns)?;
        }
        Action::Show { id } => {
            let approval: Value = client.get(&format!("/v1/approvals/{id}")).await?;
            match json {
                true => console::print_json(&approval)?,
                false => {
                    approval_text::lines(&approval).into_iter().try_for_each(console::print)?
                }
            }
        }
        Action::Propose { id } => {
            let path = format!("/v1/approvals/{id}/proposal");
            let proposal: Value = client.post(&path, &json!({})).await?;
            print_proposal(&proposal, json)?;
        }
        Action::Approve(answer) => decide(&client, "approve", answer, json).await?,
        Action::Deny(answer) => decide(&client, "deny", answer, json).await?,
    }
    Ok(0)
}

async fn decide(client: &Client, decision: &str, answer: Answer, json: bool) -> Result<()> {
    let scope = match answer.scope {
        Scope::Once if !answer.session => "once",
        Scope::Once | Scope::Session => "session",
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
    Ok(())
}

fn print_proposal(proposal: &Value, json: bool) -> Result<()> {
    if json {
        return Ok(console::print_json(proposal)?);
    }
    console::print(proposal["text"].as_str().unwrap_or_default().trim_end())?;
    let admitted = proposal["would_admit"].as_array().map(Vec::as_slice).unwrap_or_default();
    console::narrate("It would also have admitted, of the commands on record:");
    if admitted.is_empty() {
        console::narrate("  nothing");
    }
    for example in admitted {
        let command = example["command"].as_str().unwrap_or_default();
        console::narrate(format_args!("  {}", console::printable(command)));
    }
    Ok(())
}
