//! A Docker daemon that answers: the running one, or one started here.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::present;
use crate::report::say;
use crate::{process, workspace};

const START_LIMIT: Duration = Duration::from_secs(30);

/// Tried in order. Sandboxes have no network, so a machine where Docker may not touch the
/// firewall is good enough.
const VARIANTS: [&[&str]; 2] =
    [&[], &["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false"]];

/// What a daemon that was killed leaves behind, and the program that each one speaks of.
const PID_FILES: [(&str, &str); 2] = [
    ("/var/run/docker.pid", "dockerd"),
    ("/var/run/docker/containerd/containerd.pid", "containerd"),
];

/// Starts the daemon unless one answers.
pub(super) fn ensure_running() -> Result<()> {
    if let Some(version) = server_version() {
        present("Docker daemon", &format!("version {version}"));
        return Ok(());
    }
    if !workspace::is_root() {
        bail!(
            "no Docker daemon answers. Start it with `sudo systemctl start docker` and make sure \
             that your user may talk to it (`sudo usermod -aG docker $USER`)"
        );
    }
    if std::path::Path::new("/run/systemd/system").is_dir() {
        say("starting           docker.service");
        let mut start = Command::new("systemctl");
        process::run(start.args(["start", "docker"]), START_LIMIT)?;
        return wait_for_answer(|| true);
    }
    for (file, program) in PID_FILES {
        remove_stale_pid_file(Path::new(file), program)?;
    }
    let mut outcome = Ok(());
    for flags in VARIANTS {
        outcome = start(flags);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn start(flags: &[&str]) -> Result<()> {
    let log = workspace::cache()?.join("dockerd.log");
    say(format_args!("starting           dockerd {} (log: {})", flags.join(" "), log.display()));
    std::fs::create_dir_all(workspace::cache()?)?;
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    // Outlives us, in a session of its own: it serves the next run too.
    let mut child = Command::new("setsid")
        .arg(workspace::find_program("dockerd").context("no dockerd")?)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("cannot start dockerd")?;
    let alive = || matches!(child.try_wait(), Ok(None));
    wait_for_answer(alive).with_context(|| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!("dockerd says:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
    })
}

/// A killed daemon's number may be a zombie's or another program's by now; a new daemon would take
/// it for a running one and refuse to start.
fn remove_stale_pid_file(file: &Path, program: &str) -> Result<()> {
    let Ok(pid) = std::fs::read_to_string(file) else { return Ok(()) };
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    if runs(&stat, program) {
        return Ok(());
    }
    say(format_args!("removing           {}: its process is gone", file.display()));
    std::fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
}

/// Whether a line of `/proc/PID/stat` is of this program, alive.
fn runs(stat: &str, program: &str) -> bool {
    let Some((name, rest)) = stat.rsplit_once(')') else { return false };
    let alive = !matches!(rest.trim_start().chars().next(), Some('Z' | 'X') | None);
    alive && name.split_once('(').is_some_and(|(_, name)| name == program)
}

fn wait_for_answer(mut alive: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        if let Some(version) = server_version() {
            present("Docker daemon", &format!("version {version}"));
            return Ok(());
        }
        if !alive() {
            bail!("dockerd ended right after its start");
        }
        thread::sleep(Duration::from_millis(200));
    }
    bail!("the Docker daemon did not answer within {} s", START_LIMIT.as_secs())
}

fn server_version() -> Option<String> {
    let mut command = Command::new("docker");
    command.args(["version", "--format", "{{.Server.Version}}"]);
    let version = process::capture(&mut command, Duration::from_secs(10)).ok()?;
    Some(version.trim().to_owned()).filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_or_another_program_is_no_running_daemon() {
        assert!(runs("77 (dockerd) S 1 77 77 0", "dockerd"));
        assert!(!runs("77 (dockerd) Z 1 77 77 0", "dockerd"));
        assert!(!runs("77 (bash) S 1 77 77 0", "dockerd"));
        assert!(!runs("", "dockerd"));
    }
}
