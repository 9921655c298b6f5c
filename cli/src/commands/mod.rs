//! One file per command: its arguments, its requests, what it prints.

mod approval_text;
pub mod approvals;
pub mod audit;
pub mod exec;
pub mod execs;
pub mod files;
mod listing;
pub mod policy;
pub mod run;
pub mod sessions;
pub mod tenants;
pub mod tokens;
mod transfer;

use anyhow::Result;

use crate::arguments::Command;
use crate::dev;

/// Runs a command and returns its exit code.
///
/// # Errors
/// When it could not be done; the message is for the person who asked.
pub async fn run(command: Command) -> Result<u8> {
    match command {
        Command::Dev(arguments) => dev::run(arguments).await,
        Command::Exec(it) => exec::run(it.connection, it.arguments).await,
        Command::Execs(it) => execs::run(it.connection, it.arguments).await,
        Command::Files(it) => files::run(it.connection, it.arguments).await,
        Command::Run(it) => run::run(it.connection, it.arguments).await,
        Command::Sessions(it) => sessions::run(it.connection, it.arguments).await,
        Command::Approvals(it) => approvals::run(it.connection, it.arguments).await,
        Command::Policy(it) => policy::run(it.connection, it.arguments).await,
        Command::Audit(it) => audit::run(it.connection, it.arguments).await,
        Command::Tokens(it) => tokens::run(it.connection, it.arguments).await,
        Command::Tenants(it) => tenants::run(it.connection, it.arguments).await,
    }
}
