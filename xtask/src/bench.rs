//! `cargo xtask bench`: one command through Bulkhead beside the same through `docker exec`.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::compile::{self, Profile};
use crate::dev::Dev;
use crate::report::say;
use crate::workspace::{self, IMAGE};
use crate::{process, setup};

const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Measures, prints a table, writes `target/bench.json`.
pub(crate) fn run(samples: u32) -> Result<()> {
    setup::run()?;
    say("── build");
    compile::build(Profile::Release)?;
    say("── measure");
    let dev = Dev::start("bench", Profile::Release)?;
    let mut bench = Command::new(Profile::Release.folder().join("bulkhead-bench"));
    bench
        .arg("--data-dir")
        .arg(dev.data_dir())
        .args(["--image", IMAGE])
        .arg(format!("--samples={samples}"))
        .arg("--out")
        .arg(workspace::target().join("bench.json"));
    process::run(&mut bench, LIMIT)?;
    dev.finish()
}
