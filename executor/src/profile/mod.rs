//! The container that a sandbox is made of: a pure function from limits to a specification.
//!
//! It builds Docker's own types because they are the specification; only `docker.rs` talks to
//! Docker. Nothing of the host's is in it but the control folder and PID 1's program, read-only,
//! and the block device of its workspace.

mod cover;
mod seccomp;
mod syscalls;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use domain::ids::{ExecutorId, SandboxId, SessionId, TenantId};
use domain::limits::SandboxLimits;
use protocol::init::INIT_PROGRAM;
use sha2::{Digest as _, Sha256};

use crate::docker::{DockerFacts, labels};

/// Where PID 1 finds the executor's socket.
const CONTROL_FOLDER: &str = "/.bulkhead/ctl";
/// Where the workspace is.
const WORK_FOLDER: &str = "/work";
/// Where terminals are.
const TERMINALS_FOLDER: &str = "/dev/pts";
/// How names of their volumes end.
pub(crate) const TERMINALS_SUFFIX: &str = ".pts";
/// Terminals of one sandbox. The kernel has some 3000 for all (`kernel.pty.max`).
const MAX_TERMINALS: u32 = 32;
/// What PID 1 needs to start commands as another user and to end them. Commands have none of it.
const INIT_CAPABILITIES: [&str; 4] = ["SETUID", "SETGID", "KILL", "SETPCAP"];

/// What Docker hides by itself, which setting the field would uncover, and below the line what
/// tells of the host's other tenants: interrupt counts and energy meters.
const MASKED_PATHS: [&str; 13] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    // Ours.
    "/proc/interrupts",
    "/sys/devices/virtual/powercap",
    "/sys/class/powercap",
];
/// The same for what may be read only.
const READ_ONLY_PATHS: [&str; 6] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys/fs/cgroup"];
/// Most that `/tmp` and `/dev/shm` each hold, in bytes. What is in them counts against the memory.
const MAX_TMP_BYTES: u64 = 64 << 20;

/// Memory that outlives its command: shared segments go with the last process that has them, queues
/// and sets of semaphores are few.
const SYSCTLS: [(&str, &str); 3] =
    [("kernel.shm_rmid_forced", "1"), ("kernel.msgmni", "16"), ("kernel.sem", "250 4000 100 16")];

/// What this host's Docker can do for a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFeatures {
    /// Name of the OCI runtime; Docker's default when there is none.
    pub runtime: Option<String>,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether cgroup v1 is used, where swapping is a setting of its own.
    pub cgroup_v1: bool,
}

/// Docker does not know the OCI runtime that it shall use.
#[derive(Debug, thiserror::Error)]
#[error(
    "Docker has no runtime {wanted} (it has: {known}): add it to \"runtimes\" in \
     /etc/docker/daemon.json and reload Docker, or correct BULKHEAD_RUNTIME"
)]
pub struct NoSuchRuntime {
    wanted: String,
    known: String,
}

impl HostFeatures {
    /// What Docker's own words say, with this runtime or Docker's default.
    ///
    /// # Errors
    /// When Docker does not have the runtime.
    pub fn of(facts: &DockerFacts, runtime: Option<&str>) -> Result<Self, NoSuchRuntime> {
        if let Some(wanted) = runtime.filter(|name| !facts.runtimes.iter().any(|had| had == name)) {
            let known = facts.runtimes.join(", ");
            return Err(NoSuchRuntime { wanted: wanted.to_owned(), known });
        }
        Ok(Self {
            runtime: runtime.map(str::to_owned),
            apparmor: facts.security.iter().any(|name| name == "apparmor"),
            cgroup_v1: !facts.cgroup_v2,
        })
    }
}

/// Whom a container is made for. Labels cannot change later: for a container of the pool, the
/// journal and the container's name say whose it became.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// A session, with the generation of its workspace.
    Session(SessionId, u32),
    /// Whoever comes; the text tells whether a later life of the executor can use it.
    Pool(&'a str),
}

/// Where `/work` lives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WorkMount<'a> {
    /// In memory, gone with the container.
    Memory,
    /// A volume of this name, which is the ext4 file system on this block device.
    Disk { volume: &'a str, device: &'a Path },
}

/// What a sandbox is made from.
#[derive(Clone, Copy)]
pub(crate) struct Blueprint<'a> {
    pub(crate) executor_id: ExecutorId,
    pub(crate) tenant_id: TenantId,
    pub(crate) sandbox_id: SandboxId,
    pub(crate) purpose: Purpose<'a>,
    pub(crate) limits: SandboxLimits,
    pub(crate) uid: u32,
    pub(crate) image_digest: &'a str,
    pub(crate) work: WorkMount<'a>,
    pub(crate) control_folder: &'a Path,
    pub(crate) init_program: &'a Path,
    pub(crate) host: &'a HostFeatures,
}

/// A short text that differs whenever containers of the pool would be made differently: by other
/// limits, another image or another version of this file.
pub(crate) fn recipe(blueprint: &Blueprint<'_>) -> String {
    let nobody = SandboxId::from(uuid::Uuid::nil());
    let work = match blueprint.work {
        WorkMount::Memory => WorkMount::Memory,
        WorkMount::Disk { .. } => WorkMount::Disk { volume: "", device: Path::new("") },
    };
    let body = container(&Blueprint {
        sandbox_id: nobody,
        purpose: Purpose::Pool(""),
        work,
        control_folder: Path::new(""),
        ..*blueprint
    });
    // Through a value, whose maps can be put in order.
    let mut value = serde_json::to_value(body).unwrap_or_default();
    value.sort_all_objects();
    let text = value.to_string();
    protocol::grant::hex(&Sha256::digest(text))[..16].to_owned()
}

/// The container for a sandbox.
pub(crate) fn container(blueprint: &Blueprint<'_>) -> ContainerCreateBody {
    ContainerCreateBody {
        hostname: Some("sandbox".into()),
        // PID 1 only: commands get the tenant's uid and no capability.
        user: Some("0:0".into()),
        image: Some(blueprint.image_digest.into()),
        entrypoint: Some(vec![INIT_PROGRAM.into()]),
        cmd: Some(Vec::new()),
        env: Some(vec![format!("BULKHEAD_SANDBOX_ID={}", blueprint.sandbox_id)]),
        working_dir: Some("/".into()),
        // The image's own check would run as root inside.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..HealthConfig::default()
        }),
        labels: Some(container_labels(blueprint)),
        network_disabled: Some(true),
        host_config: Some(host_config(blueprint)),
        ..ContainerCreateBody::default()
    }
}

fn container_labels(blueprint: &Blueprint<'_>) -> HashMap<String, String> {
    let mut labels = object_labels(blueprint);
    match blueprint.purpose {
        Purpose::Session(session_id, generation) => {
            labels.insert(labels::SESSION.into(), session_id.to_string());
            labels.insert(labels::GENERATION.into(), generation.to_string());
        }
        Purpose::Pool(recipe) => {
            labels.insert(labels::POOL.into(), recipe.into());
        }
    }
    labels
}

/// Whose something is, on containers and volumes alike.
fn object_labels(blueprint: &Blueprint<'_>) -> HashMap<String, String> {
    [
        (labels::EXECUTOR, blueprint.executor_id.to_string()),
        (labels::TENANT, blueprint.tenant_id.to_string()),
        (labels::SANDBOX, blueprint.sandbox_id.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn host_config(blueprint: &Blueprint<'_>) -> HostConfig {
    let limits = blueprint.limits;
    let memory = i64::try_from(limits.memory_bytes).unwrap_or(i64::MAX);
    HostConfig {
        memory: Some(memory),
        // The same as memory: no swap.
        memory_swap: Some(memory),
        // v2 has no such setting, and no swap is what it means.
        memory_swappiness: blueprint.host.cgroup_v1.then_some(0),
        nano_cpus: Some(i64::from(limits.cpu_millis) * 1_000_000),
        cpu_shares: Some(256),
        pids_limit: Some(limits.pids.into()),
        ulimits: Some(ulimits(limits)),
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(INIT_CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(security_options(blueprint.host)),
        privileged: Some(false),
        readonly_rootfs: Some(true),
        network_mode: Some("none".into()),
        ipc_mode: Some("private".into()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        masked_paths: Some(MASKED_PATHS.map(str::to_owned).to_vec()),
        readonly_paths: Some(READ_ONLY_PATHS.map(str::to_owned).to_vec()),
        runtime: blueprint.host.runtime.clone(),
        tmpfs: Some(tmpfs(blueprint)),
        shm_size: i64::try_from(tmp_bytes(limits)).ok(),
        sysctls: Some(SYSCTLS.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        mounts: Some(mounts(blueprint)),
        // Output goes through PID 1's socket; a log would store it a second time, without a cap.
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        init: Some(false),
        ..HostConfig::default()
    }
}

fn security_options(host: &HostFeatures) -> Vec<String> {
    let mut options =
        vec!["no-new-privileges:true".to_owned(), format!("seccomp={}", seccomp::filter())];
    if host.apparmor {
        options.push("apparmor=docker-default".into());
    }
    options
}

/// Full, both leave half of the memory to commands: one that empties them can still run.
fn tmp_bytes(limits: SandboxLimits) -> u64 {
    MAX_TMP_BYTES.min(limits.memory_bytes / 4)
}

fn ulimits(limits: SandboxLimits) -> Vec<ResourcesUlimits> {
    // The largest file that there is room for.
    let file_bytes = limits.workspace_bytes.max(tmp_bytes(limits));
    let file_bytes = i64::try_from(file_bytes).unwrap_or(i64::MAX);
    [
        ("nofile", 1024),
        ("core", 0),
        ("fsize", file_bytes),
        ("memlock", 64 << 10),
        ("msgqueue", 0),
        ("sigpending", 1024),
    ]
    .map(|(name, value)| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(value),
        hard: Some(value),
    })
    .to_vec()
}

fn tmpfs(blueprint: &Blueprint<'_>) -> HashMap<String, String> {
    let bytes = tmp_bytes(blueprint.limits);
    let tmp = format!("rw,nosuid,nodev,noexec,size={bytes},nr_inodes=4096,mode=1777");
    let mut mounts = HashMap::from([
        ("/tmp".to_owned(), tmp),
        ("/run".to_owned(), "rw,nosuid,nodev,noexec,size=1m".to_owned()),
    ]);
    if let WorkMount::Memory = blueprint.work {
        let (bytes, uid) = (blueprint.limits.workspace_bytes, blueprint.uid);
        let work = format!(
            "rw,nosuid,nodev,exec,size={bytes},nr_inodes=65536,uid={uid},gid={uid},mode=0755"
        );
        mounts.insert(WORK_FOLDER.to_owned(), work);
    }
    mounts
}

fn mounts(blueprint: &Blueprint<'_>) -> Vec<Mount> {
    let mut mounts = vec![
        read_only(blueprint.control_folder, CONTROL_FOLDER),
        read_only(blueprint.init_program, INIT_PROGRAM),
    ];
    if let WorkMount::Disk { volume, device } = blueprint.work {
        mounts.push(work_volume(volume, device, object_labels(blueprint)));
    }
    // A runtime that was chosen may have a kernel of its own, with terminals of its own.
    if blueprint.host.runtime.is_none() {
        mounts.push(terminals_volume(blueprint));
    }
    mounts
}

/// The name of the volume that a sandbox's terminals are in.
pub(crate) fn terminals_name(sandbox_id: SandboxId) -> String {
    format!("bulkhead-{sandbox_id}{TERMINALS_SUFFIX}")
}

/// Terminals, so many and no more: by itself, one sandbox could take all that the kernel has.
fn terminals_volume(blueprint: &Blueprint<'_>) -> Mount {
    let options = [
        ("type", "devpts".to_owned()),
        ("device", "devpts".to_owned()),
        (
            "o",
            format!("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5,max={MAX_TERMINALS}"),
        ),
    ];
    let name = terminals_name(blueprint.sandbox_id);
    volume(&name, TERMINALS_FOLDER, object_labels(blueprint), options)
}

/// The workspace.
fn work_volume(name: &str, device: &Path, labels: HashMap<String, String>) -> Mount {
    let options = [
        ("type", "ext4".to_owned()),
        ("device", device.display().to_string()),
        // Freed blocks go back to the host; the tables, which are zero as a hole of the image, are
        // not written out.
        ("o", "nosuid,nodev,discard,noinit_itable,errors=remount-ro".to_owned()),
    ];
    volume(name, WORK_FOLDER, labels, options)
}

/// A volume that Docker makes with the container and mounts with these options.
fn volume(
    name: &str,
    target: &str,
    labels: HashMap<String, String>,
    options: [(&str, String); 3],
) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.into()),
        target: Some(target.into()),
        read_only: Some(false),
        volume_options: Some(MountVolumeOptions {
            // Nothing of the image's is copied: it would be written by root, by path.
            no_copy: Some(true),
            labels: Some(labels),
            driver_config: Some(MountVolumeOptionsDriverConfig {
                name: Some("local".into()),
                options: Some(options.map(|(key, value)| (key.to_owned(), value)).into()),
            }),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

fn read_only(source: &Path, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(PathBuf::from(source).display().to_string()),
        target: Some(target.into()),
        read_only: Some(true),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests;
