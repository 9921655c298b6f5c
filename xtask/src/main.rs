//! `cargo xtask …`: installing, building, showing, testing and measuring Bulkhead on one machine.
//!
//! Owns no product logic: everything it shows goes through the binaries that users get.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod checks;
mod compile;
mod demo;
mod dev;
mod process;
mod report;
mod setup;
mod workspace;

/// The chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what is missing; safe to repeat.
    Setup,
    /// Builds the binaries and the static sandbox-init.
    Build {
        /// With optimisations.
        #[arg(long)]
        release: bool,
    },
    /// Installs, builds, starts everything, runs the main job and checks what happened.
    Demo,
    /// Installs what is missing and runs every check and every test.
    Test {
        /// Also the tests that take minutes.
        #[arg(long)]
        all: bool,
        /// Only tests whose name contains this; skips the checks that are not tests.
        filter: Option<String>,
    },
    /// Measures a release build beside Docker; prints a table and writes `target/bench.json`.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        // A sentence; a backtrace would push it out of sight.
        Err(error) => {
            report::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup => setup::run(),
        Task::Build { release } => compile::build(compile::Profile::from_release(release)),
        Task::Demo => demo::run(),
        Task::Test { all, filter } => checks::run(all, filter.as_deref()),
        Task::Bench(arguments) => bench::run(&arguments),
    }
}
