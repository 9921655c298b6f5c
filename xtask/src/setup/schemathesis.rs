//! schemathesis from PyPI, which calls the API as its description allows and as it does not. Every
//! package is pinned; they are put into a folder of their own, not into anybody's Python.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::present;
use super::wheel::python_with_pip;
use crate::report::say;
use crate::{process, workspace};

const REQUIREMENTS: &str = include_str!("schemathesis.txt");
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// Holds the requirements that the folder was filled from.
const MARK: &str = "requirements.txt";

/// The folder to be put on `PYTHONPATH`.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(workspace::tools()?.join("schemathesis"))
}

/// Fills the folder, unless it holds these very versions.
pub(super) fn ensure_present() -> Result<()> {
    let folder = folder()?;
    let mark = folder.join(MARK);
    if std::fs::read_to_string(&mark).is_ok_and(|text| text == REQUIREMENTS) {
        present("schemathesis", &folder.display().to_string());
        return Ok(());
    }
    say("installing         schemathesis");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let wanted = folder.join("wanted.txt");
    std::fs::write(&wanted, REQUIREMENTS)?;
    let mut pip = python_with_pip()?;
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.arg("--target").arg(&folder).arg("--requirement").arg(&wanted);
    process::run(&mut pip, LIMIT)?;
    // Last: a folder without it is filled again.
    std::fs::rename(&wanted, &mark).with_context(|| format!("cannot write {}", mark.display()))
}
