//! Showing a command with its real output, and checking what it claims.

use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::dev::Dev;
use crate::process::Background;
use crate::report::print;

/// More than any command of the demo takes.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Where the demo plays.
pub(super) struct Stage<'a> {
    /// What runs it.
    pub(super) dev: &'a Dev,
    number: u32,
}

/// What a command wrote and how it ended.
pub(super) struct Outcome {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl<'a> Stage<'a> {
    pub(super) fn new(dev: &'a Dev) -> Self {
        Self { dev, number: 0 }
    }

    /// Announces the next scene.
    pub(super) fn title(&mut self, text: &str) {
        self.number += 1;
        print(format_args!("\n\x1b[1m{}. {text}\x1b[0m", self.number));
    }

    /// Runs `bulkhead …` and shows it.
    pub(super) fn show(&self, arguments: &[&str]) -> Result<Outcome> {
        self.show_command(arguments);
        let outcome = Outcome::from(self.dev.call(arguments, LIMIT)?);
        outcome.print();
        Ok(outcome)
    }

    /// Runs `bulkhead … --json` unseen and returns its lines.
    pub(super) fn ask(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let arguments = [arguments, &["--json"]].concat();
        let outcome = Outcome::from(self.dev.call(&arguments, LIMIT)?);
        outcome.expect_code(0)?;
        outcome.json()
    }

    /// Starts `bulkhead …` beside us and shows that.
    pub(super) fn begin(&self, arguments: &[&str]) -> Result<Background> {
        self.show_command(arguments);
        self.dev.begin(arguments)
    }

    /// Waits for what was begun and shows what it wrote.
    pub(super) fn end(&self, running: Background) -> Result<Outcome> {
        let outcome = Outcome::from(running.finish(LIMIT)?);
        outcome.print();
        Ok(outcome)
    }

    /// The approval that waits for this command in this tenant.
    pub(super) fn wait_for_approval(&self, tenant: &str, command: &str) -> Result<String> {
        self.wait("the approval", || {
            let pending = self.ask(&["approvals", "list", "--tenant", tenant])?;
            let ours = pending.iter().find(|approval| approval["command"] == command);
            Ok(ours.and_then(|approval| approval["approval_id"].as_str()).map(str::to_owned))
        })
    }

    /// Asks again and again until there is something.
    pub(super) fn wait<T>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(found) = ask()? {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                bail!("{what} did not come within {} s", LIMIT.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    fn show_command(&self, arguments: &[&str]) {
        let quote = |word: &&str| match word.contains([' ', ';', '>', '$', '\'', '&', '|']) {
            true => format!("\"{word}\""),
            false => (*word).to_owned(),
        };
        let words: Vec<_> = arguments.iter().map(quote).collect();
        print(format_args!("   \x1b[36m$ bulkhead {}\x1b[0m", words.join(" ")));
    }
}

impl Outcome {
    fn print(&self) {
        for line in self.stderr.lines().filter(|line| !line.is_empty()) {
            print(format_args!("   \x1b[2m{line}\x1b[0m"));
        }
        for line in self.stdout.lines() {
            print(format_args!("   {line}"));
        }
        print(format_args!("   \x1b[2m→ exit {}\x1b[0m", self.code));
    }

    /// Fails unless it ended with this code.
    pub(super) fn expect_code(&self, code: i32) -> Result<()> {
        ensure!(
            self.code == code,
            "expected exit {code}, got {}\nstdout: {}\nstderr: {}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(())
    }

    /// Fails unless stdout is exactly this.
    pub(super) fn expect_stdout(&self, text: &str) -> Result<()> {
        ensure!(self.stdout == text, "expected stdout {text:?}, got {:?}", self.stdout);
        Ok(())
    }

    /// Each line of stdout as JSON.
    pub(super) fn json(&self) -> Result<Vec<Value>> {
        let parse = |line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"));
        self.stdout.lines().map(parse).collect()
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            // Killed by a signal has no code; no check expects this one.
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
