//! `bulkhead dev`: every part of Bulkhead on one machine, with nothing to configure.
//!
//! Starts and supervises processes, and knows them by their command lines and their HTTP only.

mod control_plane;
mod detach;
mod error;
mod executors;
mod layout;
mod lock;
mod log;
mod ports;
mod postgres;
mod postgres_roles;
mod programs;
mod secrets;
mod service;
mod start;
mod stop;
mod supervisor;
mod temporal;
mod tenants;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

pub use error::DevError;

use crate::dev_file::DEFAULT_DATA_DIR;

/// Arguments of `bulkhead dev`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DevArguments {
    #[command(subcommand)]
    action: Option<DevAction>,
    #[command(flatten)]
    start: StartArguments,
}

#[derive(Debug, Clone, Subcommand)]
enum DevAction {
    /// Stop the one that runs on a data folder; 0 also when none does.
    Stop {
        #[command(flatten)]
        folder: Folder,
        /// Print a JSON document.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Args)]
struct Folder {
    /// Where its data, its logs and its secrets are.
    #[arg(long, env = "BULKHEAD_DATA_DIR", default_value = DEFAULT_DATA_DIR, value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, Clone, Args)]
struct StartArguments {
    #[command(flatten)]
    folder: Folder,
    /// A tenant to create and to run an executor for [default: those of the last start, else acme
    /// and globex].
    #[arg(long = "tenant", value_name = "NAME", value_parser = tenants::checked_name)]
    tenants: Vec<String>,
    /// Port of the HTTP API [default: a free one].
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// Port of the Temporal server [default: a free one].
    #[arg(long, value_name = "PORT")]
    temporal_port: Option<u16>,
    /// Port of Postgres [default: a free one].
    #[arg(long, value_name = "PORT")]
    postgres_port: Option<u16>,
    /// Return once everything is ready, and leave it running.
    #[arg(long)]
    detach: bool,
    /// Print a JSON document once everything is ready.
    #[arg(long)]
    json: bool,
    /// Set on the process that `--detach` leaves behind.
    #[arg(long, hide = true)]
    detached: bool,
}

/// Runs the command.
///
/// # Errors
/// When something could not be started; what was started is stopped again.
pub async fn run(arguments: DevArguments) -> Result<u8> {
    match arguments.action {
        Some(DevAction::Stop { folder, json }) => stop::run(&folder.data_dir, json).await?,
        None if arguments.start.detach => detach::run(&arguments.start).await?,
        None => start::run(&arguments.start).await?,
    }
    Ok(0)
}
