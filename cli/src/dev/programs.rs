//! Finding the programs that `dev` starts.

use std::fs;
use std::path::{Path, PathBuf};

use super::DevError;

const OLDEST_POSTGRES: u32 = 15;
/// What is started of it: Debian has them in two packages.
const POSTGRES: [&str; 3] = ["postgres", "initdb", "pg_isready"];
const SETUP: &str = "`cargo xtask setup` installs it";

/// Where everything is that gets started.
pub(super) struct Programs {
    /// Temporal's CLI.
    pub(super) temporal: PathBuf,
    /// `bulkhead-control-plane`.
    pub(super) control_plane: PathBuf,
    /// `bulkhead-executor`.
    pub(super) executor: PathBuf,
    /// The static program that becomes PID 1 of every sandbox.
    pub(super) sandbox_init: PathBuf,
}

impl Programs {
    /// Finds all of them, or names the first that is missing.
    pub(super) fn find() -> Result<Self, DevError> {
        let exe = std::env::current_exe().map_err(DevError::file("find", "/proc/self/exe"))?;
        let folder = exe.parent().unwrap_or(Path::new("/"));
        Ok(Self {
            temporal: temporal()?,
            control_plane: beside(folder, "control-plane")?,
            executor: beside(folder, "executor")?,
            sandbox_init: sandbox_init(folder)?,
        })
    }
}

fn temporal() -> Result<PathBuf, DevError> {
    if let Some(path) = std::env::var_os("BULKHEAD_TEMPORAL").map(PathBuf::from) {
        return existing("Temporal CLI", vec![path], "correct BULKHEAD_TEMPORAL");
    }
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) => Some(PathBuf::from(cache)),
        (None, home) => home.map(|home| PathBuf::from(home).join(".cache")),
    };
    let mut candidates = on_path("temporal");
    candidates.extend(cache.map(|cache| cache.join("bulkhead/tools/temporal")));
    existing("Temporal CLI", candidates, SETUP)
}

/// The name that releases carry, and the one that cargo gives a package's only program.
fn beside(folder: &Path, name: &str) -> Result<PathBuf, DevError> {
    let names = [format!("bulkhead-{name}"), name.to_owned()];
    let candidates = names.iter().map(|name| folder.join(name)).collect();
    existing(&names[0], candidates, "build it with `cargo xtask build`")
}

fn sandbox_init(folder: &Path) -> Result<PathBuf, DevError> {
    if let Some(path) = std::env::var_os("BULKHEAD_SANDBOX_INIT").map(PathBuf::from) {
        return existing("sandbox-init", vec![path], "correct BULKHEAD_SANDBOX_INIT");
    }
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let built = Path::new("../static").join(triple).join("sandbox-init/sandbox-init");
    // The static build first: what cargo puts beside us has libraries that a sandbox lacks.
    let candidates = vec![folder.join(built), folder.join("sandbox-init")];
    existing("static sandbox-init", candidates, "build it with `cargo xtask build`")
}

fn on_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).collect()
}

fn existing(
    what: &str,
    candidates: Vec<PathBuf>,
    remedy: &'static str,
) -> Result<PathBuf, DevError> {
    let last = candidates.last().map(|path| format!(" ({})", path.display())).unwrap_or_default();
    let found = candidates.into_iter().find(|path| path.is_file());
    let found = found.and_then(|path| path.canonicalize().ok());
    found.ok_or_else(|| DevError::NoProgram { what: what.into(), place: last, remedy })
}

/// Folder of Postgres' programs: of the version that made the cluster, or else the newest.
pub(super) fn postgres(cluster_version: Option<u32>) -> Result<PathBuf, DevError> {
    let root = Path::new("/usr/lib/postgresql");
    let versions = fs::read_dir(root).into_iter().flatten().filter_map(|entry| {
        let version: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let programs = root.join(version.to_string()).join("bin");
        let usable = POSTGRES.iter().all(|name| programs.join(name).is_file());
        (usable && version >= OLDEST_POSTGRES).then_some(version)
    });
    let chosen = match cluster_version {
        Some(wanted) => versions.into_iter().find(|&version| version == wanted),
        None => versions.max(),
    };
    let what = match cluster_version {
        Some(version) => format!("PostgreSQL {version} server"),
        None => format!("PostgreSQL server {OLDEST_POSTGRES} or newer"),
    };
    let place = format!(" (under {})", root.display());
    chosen.map(|version| root.join(version.to_string()).join("bin")).ok_or(DevError::NoProgram {
        what,
        place,
        remedy: SETUP,
    })
}
