//! `cargo xtask bench`: a release build of everything, measured beside Docker.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::compile::{self, Profile};
use crate::dev::Dev;
use crate::report::say;
use crate::workspace::{self, IMAGE};
use crate::{process, setup};

const LIMIT: Duration = Duration::from_secs(30 * 60);
const GIT_LIMIT: Duration = Duration::from_secs(10);

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Fewer samples: less than a minute.
    #[arg(long)]
    quick: bool,
    /// The control plane by itself: token checks, lists over many rows, a thousand streams.
    #[arg(long)]
    control_plane: bool,
    /// The audit log by itself: appending, looking up, exporting and verifying a million events.
    #[arg(long, conflicts_with = "control_plane")]
    audit: bool,
    /// Warm commands on each side [default: 200, or 40 when quick].
    #[arg(long)]
    samples: Option<u32>,
    /// Only this: warm, inside, start, output, parallel, memory, history or cancel; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Also writes the table as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Measures, prints a table, writes `target/bench.json`. A goal that is missed is no failure.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    say("── build");
    compile::build(Profile::Release)?;
    say("── measure");
    let dev = Dev::start("bench", Profile::Release)?;
    let mut bench = Command::new(Profile::Release.folder().join("bulkhead-bench"));
    bench
        .arg("--data-dir")
        .arg(dev.data_dir())
        .args(["--image", IMAGE, "--commit", &commit()])
        .arg("--sandbox-init")
        .arg(workspace::sandbox_init())
        .arg("--temporal")
        .arg(temporal()?)
        .arg("--out")
        .arg(workspace::target().join("bench.json"));
    if arguments.control_plane {
        bench.arg("--control-plane");
    }
    if arguments.audit {
        bench.arg("--audit");
    }
    if arguments.quick {
        bench.arg("--quick");
    }
    if let Some(samples) = arguments.samples {
        bench.arg(format!("--samples={samples}"));
    }
    for name in &arguments.only {
        bench.args(["--only", name]);
    }
    if let Some(path) = &arguments.markdown {
        bench.arg("--markdown").arg(path);
    }
    process::run(&mut bench, LIMIT)?;
    dev.finish()
}

/// Temporal's command line, found as `bulkhead dev` finds it.
fn temporal() -> Result<PathBuf> {
    let named = std::env::var_os("BULKHEAD_TEMPORAL").map(PathBuf::from);
    let cached = workspace::tools()?.join("temporal");
    named
        .or_else(|| workspace::find_program("temporal"))
        .or_else(|| Some(cached).filter(|path| path.is_file()))
        .context("no Temporal CLI: `cargo xtask setup` installs it")
}

/// What is measured; a copy of the sources without their history has no name.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"]).current_dir(workspace::root());
    let told = process::capture(&mut git, GIT_LIMIT);
    told.map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}
