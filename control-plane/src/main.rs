//! `bulkhead-control-plane`: `serve`, `worker`, `migrate`, `doctor`, and its keys.

mod command;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use control_plane::config::{DatabaseConfig, ServeConfig, WorkerConfig};
use control_plane::keys::Purpose;
use control_plane::settings;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "bulkhead-control-plane", version, about = "Bulkhead's control plane")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the HTTP API
    Serve(ServeConfig),
    /// Run session workflows and their control activities
    Worker(WorkerConfig),
    /// Bring the database up to date (as its owner) and make missing keys
    Migrate(DatabaseConfig),
    /// Check what the control plane needs, and say what is missing
    Doctor(ServeConfig),
    /// Make a platform token and print it, once
    PlatformToken(DatabaseConfig),
    /// Make a new key for audit checkpoints; the old one signs beside it until its file is removed
    RotateAuditKey(DatabaseConfig),
    /// Change the key that signs tokens, step by step
    TokenKey {
        /// Which step
        step: command::Step,
        #[command(flatten)]
        config: DatabaseConfig,
    },
    /// Change the key that signs grants, step by step; executors learn the new one by themselves
    GrantKey {
        /// Which step
        step: command::Step,
        #[command(flatten)]
        config: DatabaseConfig,
    },
    /// Append events to the audit log of a database that is used for nothing else, and say how fast
    MeasureAppend(command::MeasureConfig),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    // TLS for the model provider; the only provider that is linked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bulkhead-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let known = settings::apply(Arguments::command(), std::env::vars())?;
    let matches = known.get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.command {
        Command::Serve(config) => {
            let exporting =
                traces::start(&config.traces, "bulkhead-control-plane", runtime.handle())?;
            let outcome = runtime.block_on(command::serve(config));
            exporting.stop();
            outcome
        }
        Command::Worker(config) => {
            let exporting = traces::start(&config.traces, "bulkhead-worker", runtime.handle())?;
            let outcome = runtime.block_on(command::work(config));
            exporting.stop();
            outcome
        }
        Command::Migrate(config) => runtime.block_on(command::migrate(config)),
        Command::Doctor(config) => runtime.block_on(command::doctor(config)),
        Command::PlatformToken(config) => runtime.block_on(command::platform_token(config)),
        Command::RotateAuditKey(config) => runtime.block_on(command::rotate_audit_key(config)),
        Command::TokenKey { step, config } => {
            runtime.block_on(command::change_key(config, Purpose::Tokens, step))
        }
        Command::GrantKey { step, config } => {
            runtime.block_on(command::change_key(config, Purpose::Grants, step))
        }
        Command::MeasureAppend(config) => runtime.block_on(command::measure_append(config)),
    }
}
