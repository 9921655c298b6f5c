//! How the tasks talk: progress on stderr, results on stdout.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Says what a task is doing.
pub(crate) fn say(message: impl Display) {
    // A closed stderr is no reason to stop working.
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Prints one line of a result.
pub(crate) fn print(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Named steps and how long each took, for the summary at the end.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs one step and remembers its time; a failing step prints the summary so far.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        say(format_args!("\n── {name}"));
        let begin = Instant::now();
        let outcome = work();
        if outcome.is_err() {
            self.print_summary();
            print(format_args!("FAILED {:>8.1} s  {name}", begin.elapsed().as_secs_f64()));
        } else {
            self.done.push((name.to_owned(), begin.elapsed()));
        }
        outcome
    }

    /// Prints one line per step.
    pub(crate) fn print_summary(&self) {
        print("");
        for (name, took) in &self.done {
            print(format_args!("ok     {:>8.1} s  {name}", took.as_secs_f64()));
        }
    }
}
