//! `bulkhead`: parses the command line, runs one command, turns its end into an exit code.

use std::process::ExitCode;

use clap::Parser;
use cli::arguments::Cli;
use cli::exit::{self, OWN_ERROR};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(problem) => return refuse(&problem),
    };
    let on_error = if cli.command.exits_like_a_command() { OWN_ERROR } else { 1 };
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            cli::console::say(format_args!("{problem:#}"));
            ExitCode::from(on_error)
        }
    }
}

/// One thread is all it takes, and `dev` needs it: a child's parent-death signal is bound to the
/// thread that started it.
fn run(cli: Cli) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(cli::commands::run(cli.command));
    runtime.shutdown_background();
    outcome
}

fn refuse(problem: &clap::Error) -> ExitCode {
    // Nothing can be done about a terminal that is gone.
    let _ = problem.print();
    let mut words = std::env::args().skip(1);
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_exec = first == "exec" || (first == "execs" && second == "wait");
    match problem.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_exec => ExitCode::from(OWN_ERROR),
        _ => ExitCode::from(exit::USAGE),
    }
}
