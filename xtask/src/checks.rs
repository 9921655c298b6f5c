//! `cargo xtask test`: every check and every test, cheap ones first, each with its time.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::compile::{self, Profile, cargo};
use crate::report::{Steps, print, say};
use crate::{process, setup, workspace};

const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Runs everything, or only the tests whose name contains `filter`.
pub(crate) fn run(all: bool, filter: Option<&str>) -> Result<()> {
    let mut steps = Steps::default();
    steps.step("setup", setup::run)?;
    if filter.is_none() {
        steps.step("format", || process::run(&mut cargo(&["fmt", "--all", "--check"]), LIMIT))?;
        steps.step("dependencies", check_dependencies)?;
        steps.step("lints", lint)?;
        steps.step("documentation", document)?;
    }
    steps.step("build", || compile::build(Profile::Debug))?;
    steps.step("tests", || test(all, filter))?;
    steps.print_summary();
    print("all good");
    Ok(())
}

fn lint() -> Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    process::run(&mut cargo(&arguments), LIMIT)
}

fn document() -> Result<()> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
    process::run(command.env("RUSTDOCFLAGS", "--deny warnings"), LIMIT)
}

/// Licences, sources and bans always; advisories when their database can be had.
fn check_dependencies() -> Result<()> {
    let fetched = process::capture(cargo_deny()?.args(["fetch", "db"]), Duration::from_secs(120));
    let mut check = cargo_deny()?;
    check.arg("check");
    if let Err(problem) = fetched {
        say("!! RustSec's advisory database cannot be fetched: ADVISORIES ARE NOT CHECKED");
        say(format_args!("!! {problem:#}"));
        check.args(["bans", "licenses", "sources"]);
    }
    process::run(&mut check, LIMIT)
}

fn cargo_deny() -> Result<Command> {
    let cached = workspace::tools()?.join("cargo-deny");
    let program = if cached.is_file() { cached } else { "cargo-deny".into() };
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    Ok(command)
}

fn test(all: bool, filter: Option<&str>) -> Result<()> {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.args(filter);
    command
        .env("BULKHEAD_SANDBOX_INIT", workspace::sandbox_init())
        .env("BULKHEAD_BIN_DIR", Profile::Debug.folder());
    if all {
        command.env("BULKHEAD_TEST_ALL", "1");
    }
    process::run(&mut command, LIMIT)
}
