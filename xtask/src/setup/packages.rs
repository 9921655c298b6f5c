//! What comes from Debian: Docker Engine, the PostgreSQL server, mmdebstrap, Python with pip.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::present;
use crate::report::say;
use crate::{process, workspace};

const LIMIT: Duration = Duration::from_secs(15 * 60);
const OLDEST_POSTGRES: u32 = 15;

/// One prerequisite, how it is recognised and which package brings it.
struct Prerequisite {
    name: &'static str,
    package: &'static str,
    find: fn() -> Option<PathBuf>,
}

const PREREQUISITES: &[Prerequisite] = &[
    Prerequisite {
        name: "Docker Engine",
        package: "docker.io",
        find: || workspace::find_program("dockerd"),
    },
    Prerequisite { name: "PostgreSQL server", package: "postgresql", find: find_postgres },
    Prerequisite {
        name: "mmdebstrap",
        package: "mmdebstrap",
        find: || workspace::find_program("mmdebstrap"),
    },
    Prerequisite {
        name: "CA certificates",
        package: "ca-certificates",
        find: || Some(PathBuf::from("/etc/ssl/certs/ca-certificates.crt")).filter(|f| f.is_file()),
    },
    Prerequisite {
        name: "setpriv",
        package: "util-linux",
        find: || workspace::find_program("setpriv"),
    },
    // The second verifier of audit exports is written in it.
    Prerequisite {
        name: "Python",
        package: "python3",
        find: || workspace::find_program("python3"),
    },
];

/// Installs the packages of those prerequisites that are missing.
pub(super) fn ensure_present() -> Result<()> {
    let mut missing = Vec::new();
    for prerequisite in PREREQUISITES {
        match (prerequisite.find)() {
            Some(path) => present(prerequisite.name, &path.display().to_string()),
            None => missing.push(prerequisite.package),
        }
    }
    install(&missing)?;
    // From Debian 13 on, Docker's client is a package of its own.
    if workspace::find_program("docker").is_none() {
        install(&["docker-cli"])?;
    }
    for prerequisite in PREREQUISITES {
        if (prerequisite.find)().is_none() {
            bail!(
                "{} is still not there after installing `{}`",
                prerequisite.name,
                prerequisite.package
            );
        }
    }
    Ok(())
}

/// Installs packages, or says which command would.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !workspace::is_root() {
        bail!(
            "missing: {list}. Installing needs root; run\n    sudo apt-get install \
             --no-install-recommends {list}\nand then this again"
        );
    }
    say(format_args!("installing         {list}"));
    prevent_system_cluster()?;
    apt(&["update", "--quiet=2"])?;
    let mut arguments = vec!["install", "--yes", "--quiet=2", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    process::run(&mut command, LIMIT)
}

/// Debian's package would make and start a cluster of its own, which Bulkhead never touches.
fn prevent_system_cluster() -> Result<()> {
    let file = Path::new("/etc/postgresql-common/createcluster.conf");
    if file.exists() {
        return Ok(());
    }
    std::fs::create_dir_all("/etc/postgresql-common")?;
    std::fs::write(file, "create_main_cluster = false\n")
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The folder of the newest server's programs.
fn find_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            (version >= OLDEST_POSTGRES && programs.join("postgres").is_file())
                .then_some((version, programs))
        })
        .max()
        .map(|(_, programs)| programs)
}
