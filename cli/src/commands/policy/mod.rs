//! `bulkhead policy`: what runs by itself, what asks, what never runs, and why.

mod check;
mod explain;
mod import;
mod simulate;
mod versions;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use policy::Engine;

use crate::connection::Connection;
use crate::console;

/// A policy that does not validate.
const INVALID: u8 = 2;

/// Arguments of `bulkhead policy`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Decide about commands, offline: one JSON question a line on stdin, one JSON answer a line.
    ///
    /// A question is {"id", "command", "cwd"?, "role"?, "environment"?}. Exits 2 when the policy
    /// does not validate or one of its own tests fails, 1 when a line is no question.
    Check {
        /// The policy; without it, the shipped default.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Say how a command is understood and which rules decide.
    Explain(explain::Arguments),
    /// Turn a Codex rule file into a policy, offline; what cannot be carried over is on stderr.
    Import {
        /// The rule file.
        file: PathBuf,
    },
    /// Print the active policy, or another version of it.
    Show {
        /// The version; 0 is the shipped default.
        #[arg(long)]
        version: Option<i64>,
    },
    /// Make a file the active policy. It is refused unless it validates and passes its own tests.
    Set {
        /// The file.
        file: PathBuf,
        /// Refuse unless this version is the active one.
        #[arg(long, value_name = "VERSION")]
        expect: Option<i64>,
    },
    /// List the versions, newest first.
    Versions,
    /// Show what changed between two versions.
    Diff {
        /// The earlier version.
        from: i64,
        /// The later version; without it, the active one.
        to: Option<i64>,
    },
    /// Show what a draft would have decided on the commands of the past.
    Simulate(simulate::Arguments),
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, or the control plane refuses or cannot be reached.
pub async fn run(connection: Connection, arguments: Arguments) -> Result<u8> {
    match arguments.action {
        Action::Check { policy } => check::run(policy.as_deref()),
        Action::Explain(arguments) => explain::run(&connection, arguments).await,
        Action::Import { file } => import::run(&file, connection.json),
        Action::Show { version } => versions::show(&connection, version).await,
        Action::Set { file, expect } => versions::set(&connection, &file, expect).await,
        Action::Versions => versions::list(&connection).await,
        Action::Diff { from, to } => versions::diff(&connection, from, to).await,
        Action::Simulate(arguments) => simulate::run(&connection, arguments).await,
    }
}

/// The text of a policy file.
fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The policy in a file, or the shipped default. `None`, and a message, when it does not validate.
fn load(file: Option<&Path>) -> Result<Option<Engine>> {
    let Some(file) = file else { return Ok(Some(Engine::shipped())) };
    match Engine::load(&read(file)?) {
        Ok(engine) => Ok(Some(engine)),
        Err(error) => {
            console::say(format_args!("{}: {error}", file.display()));
            Ok(None)
        }
    }
}
