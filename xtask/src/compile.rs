//! Building what is run: the workspace's binaries and the static sandbox-init.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::{process, workspace};

const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Which of cargo's profiles the binaries are built with.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Profile {
    /// Fast to build.
    Debug,
    /// Fast to run.
    Release,
}

impl Profile {
    /// The profile that `--release` chooses.
    pub(crate) fn from_release(release: bool) -> Self {
        if release { Self::Release } else { Self::Debug }
    }

    /// The folder that the binaries are in.
    pub(crate) fn folder(self) -> PathBuf {
        workspace::target().join(match self {
            Self::Debug => "debug",
            Self::Release => "release",
        })
    }
}

/// A `cargo` of the toolchain that built this program, in the checkout.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace::root());
    // Set by `cargo run` for this program; they would make every crate with a build script that
    // looks at them build twice, here and without us.
    for (name, _) in std::env::vars_os() {
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if name.to_str().is_some_and(|name| ours.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(&name);
        }
    }
    command
}

/// Builds every binary that Bulkhead is run from.
pub(crate) fn build(profile: Profile) -> Result<()> {
    let mut command = cargo(&["build", "--bins"]);
    for package in ["cli", "control-plane", "executor"] {
        command.args(["--package", package]);
    }
    if profile == Profile::Release {
        command.arg("--release");
    }
    process::run(&mut command, LIMIT)?;
    build_sandbox_init()
}

/// Builds sandbox-init for a container that has no libraries of ours.
///
/// Its own target folder, because its flags would otherwise invalidate everybody else's.
pub(crate) fn build_sandbox_init() -> Result<()> {
    let triple = workspace::triple();
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", triple.to_uppercase().replace('-', "_"));
    let mut command = cargo(&["build", "--package", "sandbox-init", "--profile", "sandbox-init"]);
    command
        .args(["--target", &triple, "--target-dir"])
        .arg(workspace::target().join("static"))
        .env(flags, "-C target-feature=+crt-static")
        .env_remove("RUSTFLAGS");
    process::run(&mut command, LIMIT)
}
