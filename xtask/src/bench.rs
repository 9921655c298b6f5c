//! `cargo xtask bench`
use anyhow::Result;
pub(crate) fn run(_samples: u32) -> Result<()> {
    Ok(())
}
