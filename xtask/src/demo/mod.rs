//! `cargo xtask demo`: Bulkhead's main job in front of your eyes, each claim checked.

mod scene;
mod scenes;

use anyhow::Result;

use crate::compile::{self, Profile};
use crate::dev::Dev;
use crate::report::{print, say};
use crate::setup;
use scene::Stage;

/// Installs, builds, starts everything, plays the scenes. Fails if any of them is not so.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    say("── build");
    compile::build(Profile::Debug)?;
    say("── start");
    let begin = std::time::Instant::now();
    let dev = Dev::start("demo", Profile::Debug)?;
    let mut stage = Stage::new(&dev);
    if let Err(problem) = scenes::play(&mut stage) {
        say(format_args!("\nthe logs are in {}", dev.data_dir().join("logs").display()));
        return Err(problem);
    }
    dev.finish()?;
    print(format_args!("\nAll of it held, in {:.0} s.", begin.elapsed().as_secs_f64()));
    Ok(())
}
