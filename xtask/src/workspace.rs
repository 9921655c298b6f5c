//! Where things are: the checkout, its build folder, the cache of downloaded tools.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Tag of the sandbox image.
pub(crate) const IMAGE: &str = "bulkhead-sandbox:bookworm";

/// The checkout that `cargo xtask` was called in. A build folder can be moved to another one, so the
/// place where this was compiled counts only without cargo.
pub(crate) fn root() -> PathBuf {
    let compiled = || env!("CARGO_MANIFEST_DIR").into();
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(compiled, PathBuf::from);
    manifest.parent().unwrap_or(&manifest).to_path_buf()
}

/// The build folder, absolute: `CARGO_TARGET_DIR` or `target`.
pub(crate) fn target() -> PathBuf {
    let folder =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(folder)
}

/// The target triple of this machine with glibc, the only one that sandbox-init is built for.
pub(crate) fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// The static sandbox-init that `cargo xtask build` makes.
pub(crate) fn sandbox_init() -> PathBuf {
    target().join("static").join(triple()).join("sandbox-init/sandbox-init")
}

/// Folder of downloaded programs.
pub(crate) fn tools() -> Result<PathBuf> {
    Ok(cache()?.join("tools"))
}

/// Bulkhead's cache folder.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let home =
                std::env::var_os("HOME").context("HOME is not set: where to cache tools?")?;
            PathBuf::from(home).join(".cache")
        }
    };
    Ok(base.join("bulkhead"))
}

/// Finds a program on `PATH`, or in the folders of system programs that a user's `PATH` may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Whether we may install packages and start daemons.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| {
        use std::os::unix::fs::MetadataExt;
        meta.uid() == 0
    })
}
