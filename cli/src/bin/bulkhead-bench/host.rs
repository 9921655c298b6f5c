//! What this machine says: memory and processes from `/proc`, and what machine it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::docker::Docker;

const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    field_kib(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// A process' share of memory, pages shared with others counted in parts, in KiB.
pub(crate) fn proportional_kib(pid: u32) -> Result<u64> {
    field_kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn field_kib(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).with_context(|| format!("no {name} in {path}"))
}

/// The processes of the container whose PID 1 has this number here.
pub(crate) fn processes_beside(pid: u32) -> Result<BTreeSet<u32>> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("no such process")?;
    let folder = cgroup_folder(&table).context("the container has no cgroup of its own")?;
    let file = folder.join("cgroup.procs");
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// v1 has a line such as `4:memory:/docker/…`, v2 only `0::/…`.
fn cgroup_folder(table: &str) -> Option<PathBuf> {
    let mut unified = None;
    for line in table.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let path = path.trim_start_matches('/');
        if controllers.split(',').any(|name| name == "memory") {
            return Some(PathBuf::from("/sys/fs/cgroup/memory").join(path));
        }
        if controllers.is_empty() && !path.is_empty() {
            unified = Some(PathBuf::from("/sys/fs/cgroup").join(path));
        }
    }
    unified
}

/// The short name of a process that lives: a zombie is dead.
pub(crate) fn living(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (begin, rest) = stat.rsplit_once(')')?;
    let name = begin.split_once('(')?.1;
    let dead = rest.trim_start().starts_with(['Z', 'X']);
    (!dead).then(|| name.to_owned())
}

/// Watches a process' resident memory. Dropping it stops it.
pub(crate) struct MemoryWatch {
    peak_kib: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl MemoryWatch {
    /// Begins to watch.
    pub(crate) fn begin(pid: u32) -> Self {
        let (peak_kib, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let watch = Self { peak_kib: Arc::clone(&peak_kib), stop: Arc::clone(&stop) };
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                peak_kib.fetch_max(resident_kib(pid).unwrap_or(0), Ordering::Relaxed);
                thread::sleep(SAMPLE_EVERY);
            }
        });
        watch
    }

    /// The most so far, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.peak_kib.load(Ordering::Relaxed)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Processor time since the machine started, in ticks.
pub(crate) struct CpuTime {
    all: u64,
    stolen: u64,
}

impl CpuTime {
    /// Until now.
    pub(crate) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Self::of(&text).context("/proc/stat has no line of all processors")
    }

    fn of(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in the first two.
        let own = ticks.get(..8)?;
        Some(Self { all: own.iter().sum(), stolen: own[7] })
    }

    /// What the host of this machine gave to others since then, in percent. Figures of a machine
    /// that lacks processors now and then say little.
    pub(crate) fn stolen_since(&self, then: &Self) -> f64 {
        let all = self.all.saturating_sub(then.all).max(1);
        self.stolen.saturating_sub(then.stolen) as f64 * 100.0 / all as f64
    }
}

/// The machine that the numbers are of.
pub(crate) fn machine(docker: &Docker, commit: &str) -> Result<Value> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let info = docker.json("GET", "/info", None)?;
    Ok(json!({
        "cpu": model.map_or("unknown", |(_, model)| model),
        "cores": thread::available_parallelism()?.get(),
        "memory_mib": field_kib("/proc/meminfo", "MemTotal:")? / 1024,
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "docker": info["ServerVersion"],
        "cgroup": info["CgroupVersion"],
        "date": OffsetDateTime::now_utc().format(&Rfc3339)?,
        "commit": commit,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cgroup_versions_are_found_and_the_root_is_not() {
        let folder = |table| cgroup_folder(table).map(|path| path.display().to_string());
        let v1 = "5:pids:/docker/a\n4:memory:/docker/a\n0::/";
        assert_eq!(folder(v1).as_deref(), Some("/sys/fs/cgroup/memory/docker/a"));
        let v2 = "0::/system.slice/docker-a.scope";
        assert_eq!(folder(v2).as_deref(), Some("/sys/fs/cgroup/system.slice/docker-a.scope"));
        assert_eq!(folder("0::/"), None);
    }

    #[test]
    fn stolen_time_is_a_share_of_all_of_it() {
        let of = |line: &str| CpuTime::of(line).expect("a line");
        let then = of("cpu  10 0 10 70 0 0 0 10 5 0\ncpu0 1 1 1 1 1 1 1 1 1 1");
        let now = of("cpu  40 0 20 110 0 0 0 30 9 0");
        assert!((now.stolen_since(&then) - 20.0).abs() < 1e-9);
        assert_eq!(then.stolen_since(&then), 0.0);
        assert!(CpuTime::of("cpu 1 2 3").is_none());
        assert!(CpuTime::now().is_ok());
    }

    #[test]
    fn our_own_memory_is_found() {
        let pid = std::process::id();
        assert!(resident_kib(pid).expect("resident") > 0);
        assert!(proportional_kib(pid).expect("proportional") > 0);
        assert!(living(pid).is_some());
    }
}
