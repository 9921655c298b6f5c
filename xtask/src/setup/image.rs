//! The sandbox image, built from Debian packages or from the Dockerfile, from one recipe.
//!
//! Rebuilt only when a file of the recipe changed. An image with a setuid or setgid file is
//! refused, whichever way it was built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::present;
use crate::process;
use crate::report::say;
use crate::workspace::{self, IMAGE};

const LIMIT: Duration = Duration::from_secs(15 * 60);
const LABEL: &str = "bulkhead.image.recipe";
const SUITE: &str = "bookworm";
const RECIPE: [&str; 3] = ["packages.txt", "customize.sh", "Dockerfile"];
/// The same for both ways of building; `docker import` knows no Dockerfile.
const CHANGES: [&str; 3] = [
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "WORKDIR /work",
    "CMD [\"/bin/bash\"]",
];

/// Builds the image unless one of the present recipe is there.
pub(super) fn ensure_built() -> Result<()> {
    let folder = workspace::root().join("deploy/sandbox-image");
    let recipe = digest(&folder)?;
    if built_recipe().as_deref() == Some(&recipe) {
        present("sandbox image", &format!("{IMAGE} (recipe {})", &recipe[..12]));
        return Ok(());
    }
    if std::env::var_os("BULKHEAD_IMAGE_FROM_REGISTRY").is_some_and(|value| value == "1") {
        build_from_registry(&folder, &recipe)?;
    } else {
        build_from_packages(&folder, &recipe)?;
    }
    if let Err(problem) = refuse_privileged_files() {
        docker(&["rmi", "--force", IMAGE])?;
        return Err(problem);
    }
    say(format_args!("built              {IMAGE}"));
    Ok(())
}

fn build_from_packages(folder: &Path, recipe: &str) -> Result<()> {
    if !workspace::is_root() {
        bail!("building {IMAGE} needs root once; run `sudo cargo xtask setup`");
    }
    say(format_args!("building           {IMAGE} from Debian packages (half a minute)"));
    let work = workspace::target().join("sandbox-image");
    std::fs::create_dir_all(&work)?;
    let tar = work.join("root.tar");
    bootstrap(folder, &tar)?;
    let mut import = Command::new("docker");
    import.arg("import");
    for change in CHANGES {
        import.args(["--change", change]);
    }
    import.args(["--change", &format!("LABEL {LABEL}={recipe}")]).arg(&tar).arg(IMAGE);
    process::capture(&mut import, LIMIT)?;
    std::fs::remove_file(&tar)?;
    Ok(())
}

fn bootstrap(folder: &Path, tar: &Path) -> Result<()> {
    let script = folder.join("customize.sh");
    let hook = format!(
        "cp '{}' \"$1/customize.sh\" && chroot \"$1\" sh /customize.sh; code=$?; \
         rm -f \"$1/customize.sh\"; exit $code",
        script.display()
    );
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=minbase"])
        .arg(format!("--include={}", packages(folder)?.join(",")))
        .arg(format!("--customize-hook={hook}"))
        .arg(SUITE)
        .arg(tar);
    if let Ok(mirror) = std::env::var("BULKHEAD_DEBIAN_MIRROR") {
        command.arg(mirror);
    }
    process::run(&mut command, LIMIT)
}

fn build_from_registry(folder: &Path, recipe: &str) -> Result<()> {
    say(format_args!("building           {IMAGE} from its Dockerfile"));
    docker(&["pull", "--quiet", "debian:bookworm-slim"])
        .context("no registry? without BULKHEAD_IMAGE_FROM_REGISTRY=1 packages are enough")?;
    let mut build = Command::new("docker");
    build
        .args(["build", "--quiet", "--tag", IMAGE])
        .arg(format!("--label={LABEL}={recipe}"))
        .arg(folder);
    process::run(&mut build, LIMIT)
}

/// Looks at every file of the image as it is, without starting a container.
fn refuse_privileged_files() -> Result<()> {
    let container = docker(&["create", IMAGE])?;
    let container = container.trim();
    let mut list = Command::new("sh");
    list.args(["-c", "docker export \"$1\" | tar --list --verbose", "sh", container]);
    let listing = process::capture(&mut list, LIMIT);
    docker(&["rm", container])?;
    let listing = listing?;
    let privileged: Vec<_> = listing.lines().filter(|line| is_privileged(line)).collect();
    if listing.lines().count() < 1000 {
        bail!("{IMAGE} holds {} files only: it was not built right", listing.lines().count());
    }
    if !privileged.is_empty() {
        bail!("{IMAGE} has setuid or setgid files:\n{}", privileged.join("\n"));
    }
    Ok(())
}

/// Whether a line of `tar --list --verbose` shows a setuid or setgid bit.
fn is_privileged(line: &str) -> bool {
    let mode = line.as_bytes();
    [3, 6].iter().any(|&at| mode.get(at).is_some_and(|bit| bit.eq_ignore_ascii_case(&b's')))
}

fn packages(folder: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(folder.join("packages.txt"))?;
    Ok(text.lines().map(str::trim).filter(is_package).map(str::to_owned).collect())
}

fn is_package(line: &&str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

/// SHA-256 over the recipe's files, by the tool that every Debian has.
fn digest(folder: &Path) -> Result<String> {
    let files: Vec<PathBuf> = RECIPE.iter().map(|name| folder.join(name)).collect();
    let mut command = Command::new("sh");
    command.args(["-c", "cat -- \"$@\" | sha256sum", "sh"]).args(&files);
    let line = process::capture(&mut command, LIMIT)?;
    Ok(line.split_whitespace().next().context("sha256sum printed nothing")?.to_owned())
}

fn built_recipe() -> Option<String> {
    let format = format!("{{{{index .Config.Labels \"{LABEL}\"}}}}");
    let label = docker(&["image", "inspect", "--format", &format, IMAGE]).ok()?;
    Some(label.trim().to_owned())
}

fn docker(arguments: &[&str]) -> Result<String> {
    process::capture(Command::new("docker").args(arguments), LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setuid_and_setgid_bits_are_seen() {
        assert!(is_privileged("-rwsr-xr-x root/root 1 2024-01-01 00:00 usr/bin/su"));
        assert!(is_privileged("-rwxr-sr-x root/mail 1 2024-01-01 00:00 usr/bin/mail"));
        assert!(is_privileged("drwxrwSr-x root/staff 0 2024-01-01 00:00 var/local"));
        assert!(!is_privileged("drwxrwxrwt root/root 0 2024-01-01 00:00 tmp/s"));
    }
}
