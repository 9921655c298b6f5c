//! `bulkhead audit`: what was decided and done, by whom; and the proof of it.

mod erase;
mod export;
mod look_up;
mod review;
mod sampling;
mod verify;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::listing;
use crate::connection::{Caller, Connection};

/// Arguments of `bulkhead audit`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// The platform's own log, with the platform's token, instead of a tenant's.
    #[arg(long, global = true)]
    system: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Audit events, oldest first.
    List(look_up::Arguments),
    /// Write the log to a file; as JSONL with everything that `verify` needs.
    Export(export::Arguments),
    /// Check an exported log, offline: exit 0 only if all of it holds.
    Verify(verify::Arguments),
    /// Signed checkpoints, newest first.
    Checkpoints,
    /// Have a checkpoint made now and print it, to be kept where nobody can change it.
    Checkpoint(export::CheckpointArguments),
    /// What reviewers said, newest first.
    Reviews {
        /// Only of this event.
        #[arg(long, value_name = "NUMBER")]
        seq: Option<u64>,
    },
    /// Say what you think of an audit event.
    Review(review::Arguments),
    /// Which of the execs that policy allows by itself are put before reviewers.
    Sampling(sampling::Arguments),
    /// What waits for a review, the longest waiting first.
    Queue {
        /// The shortest waiting first.
        #[arg(long)]
        newest: bool,
    },
    /// How much policy allows by itself, and what reviewers think of it.
    Figures(sampling::FigureArguments),
    /// Erase details of events for good. That they happened, and the proof of it, stays.
    Erase(erase::Arguments),
    /// For how long details of events stay.
    Retention(erase::RetentionArguments),
}

/// Runs the command.
///
/// # Errors
/// When the control plane refuses or cannot be reached, or a file cannot be used.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    let json = connection.json;
    let fitting = if arguments.system { Caller::Platform } else { Caller::Reviewer };
    let reader = || connection.client(fitting);
    match arguments.action {
        Action::Verify(arguments) => return verify::run(&arguments, json),
        Action::List(arguments) => look_up::run(&reader()?, &arguments, json).await?,
        Action::Export(arguments) => export::run(&reader()?, &arguments).await?,
        Action::Checkpoint(arguments) => export::checkpoint(&reader()?, &arguments).await?,
        Action::Checkpoints => {
            let items = listing::fetch(&reader()?, "/v1/audit/checkpoints?limit=200").await?;
            listing::print(&items, json, &["number", "time", "size"])?;
        }
        Action::Reviews { seq } => {
            let filter = seq.map(|seq| format!("&seq={seq}")).unwrap_or_default();
            let path = format!("/v1/audit/reviews?limit=200{filter}");
            let items = listing::fetch(&reader()?, &path).await?;
            let columns = ["review_id", "seq", "verdict", "comment", "reviewed_by", "created_at"];
            listing::print(&items, json, &columns)?;
        }
        Action::Review(arguments) => review::run(&reader()?, &arguments, json).await?,
        Action::Sampling(arguments) => sampling::run(&connection, &arguments).await?,
        Action::Queue { newest } => sampling::queue(&connection, newest).await?,
        Action::Figures(arguments) => sampling::figures(&connection, &arguments).await?,
        Action::Erase(arguments) => erase::run(&connection, &arguments).await?,
        Action::Retention(arguments) => erase::retention(&connection, &arguments).await?,
    }
    Ok(0)
}
