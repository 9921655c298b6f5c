//! `sandbox-init`: PID 1 of a sandbox. Starts, watches, reaps and kills commands, and holds their
//! output until the executor has it. Survives the executor; knows no network and no policy.
//!
//! It runs as root of the container with four capabilities, commands run as another user with
//! none: they can neither reach its socket, signal it, trace it, nor forge a frame.
//!
//! The same program is two of those commands: `files` works on files of the workspace, `tool` does
//! what a model's tools do. Both have the tenant's rights to files and no others, and the tenant has
//! none to them; see [`helper`].

mod exec;
mod files;
mod git;
mod helper;
mod launch;
mod link;
mod named;
mod owner;
mod process;
mod shared;
mod shepherd;
mod stall;
mod started;
mod stdin;
mod stdio;
mod stream;
mod supervisor;
mod terminal;
mod tools;
mod tree;
mod turns;
mod window;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use domain::ids::SandboxId;

/// Where the executor's folder with its socket is mounted, read-only.
const SOCKET: &str = "/.bulkhead/ctl/executor.sock";
/// Tells which sandbox this is.
const SANDBOX_ID: &str = "BULKHEAD_SANDBOX_ID";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.is_empty() {
        return supervise();
    }
    match helper::perform(&arguments) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn supervise() -> ExitCode {
    let Some(sandbox_id) = std::env::var(SANDBOX_ID).ok().and_then(|id| id.parse().ok()) else {
        eprintln!("sandbox-init: {SANDBOX_ID} is missing or no sandbox id");
        return ExitCode::FAILURE;
    };
    match run(sandbox_id) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("sandbox-init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(sandbox_id: SandboxId) -> nix::Result<std::convert::Infallible> {
    process::harden()?;
    let boot_id = process::boot_id()?;
    supervisor::Supervisor::new(sandbox_id, boot_id, Path::new(SOCKET))?.run()
}
