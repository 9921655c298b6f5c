//! `cargo xtask test`: every check and every test, cheap ones first, each with its time.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::compile::{self, Profile, cargo};
use crate::report::{Steps, print, say};
use crate::{process, setup, workspace};

const LIMIT: Duration = Duration::from_secs(100 * 60);

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
    let tally = Tally::default();
    let mut outcome = steps.step("tests", || test(all, filter, tally.clone()));
    if all && filter.is_none() {
        outcome = outcome.and(steps.step("speed", || speed(tally.clone())));
    }
    let (passed, failed) = tally.counts();
    if outcome.is_ok() {
        steps.print_summary();
        print("all good");
    }
    print(format!("{passed} passed, {failed} failed"));
    outcome?;
    if passed == 0 {
        bail!("no test ran");
    }
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

fn test(all: bool, filter: Option<&str>, tally: Tally) -> Result<()> {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.args(filter);
    command
        .env("BULKHEAD_SANDBOX_INIT", workspace::sandbox_init())
        .env("BULKHEAD_BIN_DIR", Profile::Debug.folder())
        .env("BULKHEAD_SCHEMATHESIS", setup::schemathesis::folder()?);
    if all {
        command.env("BULKHEAD_TEST_ALL", "1");
    }
    process::run_watched(&mut command, LIMIT, move |line| tally.read(line))
}

/// How long decisions take, and their bounds: an unoptimised build says nothing about that.
fn speed(tally: Tally) -> Result<()> {
    let mut command = cargo(&["test", "--release", "--package", "policy", "--test", "speed"]);
    command.args(["--", "--nocapture"]);
    process::run_watched(&mut command, LIMIT, move |line| tally.read(line))
}

/// Counts what the test programs say of themselves.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<(u64, u64)>>);

impl Tally {
    /// Reads a line such as `test result: ok. 4 passed; 1 failed; …`.
    fn read(&self, line: &str) {
        let Some((_, result)) = line.split_once("test result: ") else { return };
        let count = |word: &str| -> u64 {
            let before = result.split(word).next().unwrap_or_default();
            before.trim_end().rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.0 += count("passed");
        counts.1 += count("failed");
    }

    fn counts(&self) -> (u64, u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let tally = Tally::default();
        tally.read("test result: ok. 4 passed; 0 failed; 0 ignored; finished in 0.1s");
        tally.read("test result: FAILED. 2 passed; 3 failed; 0 ignored");
        tally.read("test a::b ... ok");
        assert_eq!(tally.counts(), (6, 3));
    }
}
