//! How well this host isolates: one line per control, and the tier that follows from them. Judges
//! facts that were gathered before; what could not be found out counts as missing.

mod host;

use serde::Serialize;

use crate::docker::DockerFacts;
pub use host::HostFacts;

/// runc releases from which the container escapes of 2024 and 2025 are fixed (CVE-2024-21626;
/// CVE-2025-31133, CVE-2025-52565, CVE-2025-52881), by minor version.
const FIXED_RUNC: [(u32, u32, u32); 3] = [(1, 2, 8), (1, 3, 3), (1, 4, 0)];

/// Whether a control is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is.
    Present,
    /// It is not, and there is no safe sandbox without it.
    Missing,
    /// It is not, and should be.
    Advised,
}

/// One control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub standing: Standing,
    /// What it protects from.
    pub meaning: &'static str,
    /// How to get it.
    pub remedy: &'static str,
}

/// What there is to say of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// 0 when a baseline control is missing, 1 with a shared kernel, 2 with a kernel in user space,
    /// 3 with a virtual machine for each sandbox.
    pub tier: u8,
    /// Every control.
    pub controls: Vec<Control>,
}

/// The host is below what its operator demands.
#[derive(Debug, thiserror::Error)]
#[error(
    "this host isolates at tier {tier}, BULKHEAD_MIN_TIER demands {wanted}{missing}: run \
     `bulkhead-executor doctor` for what to do"
)]
pub struct TierTooLow {
    tier: u8,
    wanted: u8,
    missing: String,
}

impl Report {
    /// Refuses a host below the tier wanted.
    ///
    /// # Errors
    /// Names the baseline controls that are missing.
    pub fn require(&self, wanted: u8) -> Result<(), TierTooLow> {
        if self.tier >= wanted {
            return Ok(());
        }
        let missing = self.controls.iter().filter(|one| one.standing == Standing::Missing);
        let missing: Vec<_> = missing.map(|control| control.name).collect();
        let missing = match missing.is_empty() {
            true => String::new(),
            false => format!(" (missing: {})", missing.join(", ")),
        };
        Err(TierTooLow { tier: self.tier, wanted, missing })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tier = match self.tier {
            0 => "no safe sandbox",
            1 => "containers on the host's kernel, with every baseline control",
            2 => "a kernel in user space for each sandbox",
            _ => "a virtual machine for each sandbox",
        };
        writeln!(f, "isolation tier {}: {tier}", self.tier)?;
        for Control { name, standing, meaning, remedy } in &self.controls {
            match standing {
                Standing::Present => writeln!(f, "present  {name}: {meaning}")?,
                Standing::Missing => writeln!(f, "MISSING  {name}: {meaning}; {remedy}")?,
                Standing::Advised => writeln!(f, "advised  {name}: {meaning}; {remedy}")?,
            }
        }
        Ok(())
    }
}

/// Judges a host. `on_disk` tells whether workspaces have a file system of their own; in memory
/// they have a size too, so that the quota holds either way.
pub fn assess(
    docker: &DockerFacts,
    host: &HostFacts,
    runtime: Option<&str>,
    on_disk: bool,
) -> Report {
    let has = |name: &str| docker.security.iter().any(|option| option == name);
    let mut controls = vec![
        baseline(
            "seccomp",
            has("seccomp"),
            "filters system calls",
            "use a kernel and a Docker with seccomp",
        ),
        baseline(
            "memory limit",
            docker.memory,
            "a command cannot take the host's memory",
            "enable the memory cgroup controller",
        ),
        baseline(
            "process limit",
            docker.pids,
            "a fork bomb stays inside",
            "enable the pids cgroup controller",
        ),
        baseline(
            "processor limit",
            docker.cpu,
            "a busy loop leaves time to others",
            "enable the cpu cgroup controller",
        ),
        baseline(
            "workspace quota",
            on_disk || docker.memory,
            "files cannot fill the host's disk",
            "make loop devices work, or memory limits for workspaces in memory",
        ),
        baseline(
            "no-new-privileges",
            true,
            "set-user-id programs give nothing",
            "every sandbox is made with it",
        ),
    ];
    controls.extend([
        advised(
            "cgroup v2",
            docker.cgroup_v2,
            "limits apply to all resources of a sandbox alike",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
        advised(
            "AppArmor or SELinux",
            has("apparmor") || has("selinux"),
            "a second opinion on every access",
            "enable the module in the kernel",
        ),
        advised(
            "user namespaces",
            has("userns") || has("rootless"),
            "root of a container is nobody on the host",
            "set userns-remap in /etc/docker/daemon.json, or run Docker rootless",
        ),
        advised(
            "live-restore",
            docker.live_restore,
            "commands survive a restart of Docker",
            "set live-restore in /etc/docker/daemon.json",
        ),
        advised(
            "workspaces on disk",
            on_disk,
            "files outlive their container",
            "run as root with e2fsprogs and loop devices",
        ),
        advised(
            "a fixed runc",
            runc_is_fixed(&docker.runc),
            "known escapes through runc are closed",
            "update to runc 1.2.8, 1.3.3 or later",
        ),
    ]);
    controls.extend(host.controls());
    let missing = controls.iter().any(|control| control.standing == Standing::Missing);
    let promised = promised_tier(runtime.unwrap_or(&docker.default_runtime));
    if promised > 1 {
        controls.push(advised(
            "a kernel of its own",
            docker.own_kernel,
            "the host's kernel is out of a command's reach",
            "this runtime runs containers on the host's kernel: correct its path in \
             /etc/docker/daemon.json",
        ));
    }
    let kept = if docker.own_kernel { promised } else { 1 };
    Report { tier: if missing { 0 } else { kept }, controls }
}

/// The tier of runtimes of this name. A name is the operator's word: it counts for no more than 1
/// until a container of it has seen another kernel than the host's.
pub fn promised_tier(runtime: &str) -> u8 {
    match runtime {
        name if name.contains("kata") => 3,
        name if name.contains("runsc") || name.contains("gvisor") => 2,
        _ => 1,
    }
}

fn runc_is_fixed(version: &str) -> bool {
    let mut numbers =
        version.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let (Some(major), Some(minor), Some(patch)) = (numbers.next(), numbers.next(), numbers.next())
    else {
        return false;
    };
    let same = FIXED_RUNC.iter().find(|fixed| (fixed.0, fixed.1) == (major, minor));
    match same {
        Some(fixed) => patch >= fixed.2,
        None => FIXED_RUNC.last().is_some_and(|last| (major, minor, patch) >= *last),
    }
}

fn baseline(
    name: &'static str,
    there: bool,
    meaning: &'static str,
    remedy: &'static str,
) -> Control {
    let standing = if there { Standing::Present } else { Standing::Missing };
    Control { name, standing, meaning, remedy }
}

fn advised(
    name: &'static str,
    there: bool,
    meaning: &'static str,
    remedy: &'static str,
) -> Control {
    let standing = if there { Standing::Present } else { Standing::Advised };
    Control { name, standing, meaning, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> DockerFacts {
        DockerFacts {
            security: vec!["seccomp".into()],
            default_runtime: "runc".into(),
            memory: true,
            pids: true,
            cpu: true,
            own_kernel: true,
            ..DockerFacts::default()
        }
    }

    fn tier(docker: &DockerFacts, runtime: Option<&str>) -> u8 {
        assess(docker, &HostFacts::default(), runtime, true).tier
    }

    #[test]
    fn the_runtime_makes_the_tier_and_advice_does_not_lower_it() {
        assert_eq!(tier(&sound(), None), 1);
        assert_eq!(tier(&sound(), Some("runsc")), 2);
        assert_eq!(tier(&sound(), Some("io.containerd.kata.v2")), 3);
        let gvisor = DockerFacts { default_runtime: "runsc".into(), ..sound() };
        assert_eq!(tier(&gvisor, None), 2);
        let misnamed = DockerFacts { own_kernel: false, ..gvisor };
        assert_eq!(tier(&misnamed, None), 1);
        assert_eq!(tier(&misnamed, Some("kata")), 1);
    }

    #[test]
    fn every_missing_baseline_control_is_named_and_means_tier_0() {
        let without = [
            (DockerFacts { security: Vec::new(), ..sound() }, "seccomp"),
            (DockerFacts { memory: false, ..sound() }, "memory limit"),
            (DockerFacts { pids: false, ..sound() }, "process limit"),
            (DockerFacts { cpu: false, ..sound() }, "processor limit"),
        ];
        for (docker, name) in without {
            let report = assess(&docker, &HostFacts::default(), Some("runsc"), true);
            assert_eq!(report.tier, 0, "{name}");
            let message = report.require(1).expect_err("refused").to_string();
            assert!(message.contains(name), "{message}");
        }
        let report = assess(&sound(), &HostFacts::default(), None, true);
        assert!(report.require(1).is_ok());
        assert!(report.require(2).is_err());
    }

    #[test]
    fn a_runc_is_fixed_from_its_own_release_on() {
        for fixed in ["1.2.8", "1.3.3", "1.4.0-rc.1", "2.0.0", "1.3.10+ds1"] {
            assert!(runc_is_fixed(fixed), "{fixed}");
        }
        for old in ["1.1.5+ds1", "1.1.12", "1.2.7", "1.3.2", "", "unknown"] {
            assert!(!runc_is_fixed(old), "{old}");
        }
    }
}
