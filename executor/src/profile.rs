//! The container that a sandbox is made of: a pure function from limits to a specification.
//!
//! It builds Docker's own types because they are the specification; only `docker.rs` talks to
//! Docker. Nothing of the host's is in it but the control folder and PID 1's program, read-only.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount, MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use domain::ids::{ExecutorId, SessionId, TenantId};
use domain::limits::SandboxLimits;
use domain::sandbox::SandboxRef;

use crate::docker::labels;

/// Where PID 1 finds the executor's socket.
const CONTROL_FOLDER: &str = "/.bulkhead/ctl";
/// Where PID 1's program is.
const INIT_PROGRAM: &str = "/.bulkhead/init";
/// What PID 1 needs to start commands as another user and to end them. Commands have none of it.
const INIT_CAPABILITIES: [&str; 4] = ["SETUID", "SETGID", "KILL", "SETPCAP"];

/// What a sandbox is made from.
pub(crate) struct Blueprint<'a> {
    pub(crate) executor_id: ExecutorId,
    pub(crate) tenant_id: TenantId,
    pub(crate) session_id: SessionId,
    pub(crate) sandbox: SandboxRef,
    pub(crate) limits: SandboxLimits,
    pub(crate) uid: u32,
    pub(crate) image_digest: &'a str,
    pub(crate) control_folder: &'a Path,
    pub(crate) init_program: &'a Path,
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
        env: Some(vec![format!("BULKHEAD_SANDBOX_ID={}", blueprint.sandbox.id)]),
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
    [
        (labels::EXECUTOR, blueprint.executor_id.to_string()),
        (labels::TENANT, blueprint.tenant_id.to_string()),
        (labels::SESSION, blueprint.session_id.to_string()),
        (labels::SANDBOX, blueprint.sandbox.id.to_string()),
        (labels::GENERATION, blueprint.sandbox.generation.to_string()),
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
        nano_cpus: Some(i64::from(limits.cpu_millis) * 1_000_000),
        cpu_shares: Some(256),
        pids_limit: Some(limits.pids.into()),
        ulimits: Some(ulimits()),
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(INIT_CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(vec!["no-new-privileges:true".into()]),
        privileged: Some(false),
        readonly_rootfs: Some(true),
        network_mode: Some("none".into()),
        ipc_mode: Some("private".into()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        tmpfs: Some(tmpfs(limits.workspace_bytes, blueprint.uid)),
        shm_size: Some(64 << 20),
        mounts: Some(vec![
            read_only(blueprint.control_folder, CONTROL_FOLDER),
            read_only(blueprint.init_program, INIT_PROGRAM),
        ]),
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

fn ulimits() -> Vec<ResourcesUlimits> {
    [("nofile", 1024), ("core", 0), ("memlock", 64 << 10), ("msgqueue", 0), ("sigpending", 1024)]
        .map(|(name, value)| ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(value),
            hard: Some(value),
        })
        .to_vec()
}

fn tmpfs(workspace_bytes: u64, uid: u32) -> HashMap<String, String> {
    let work = format!(
        "rw,nosuid,nodev,exec,size={workspace_bytes},nr_inodes=65536,uid={uid},gid={uid},mode=0755"
    );
    [
        ("/work", work.as_str()),
        ("/tmp", "rw,nosuid,nodev,noexec,size=64m,nr_inodes=4096,mode=1777"),
        ("/run", "rw,nosuid,nodev,noexec,size=1m"),
    ]
    .map(|(path, options)| (path.to_owned(), options.to_owned()))
    .into()
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
mod tests {
    use super::*;
    use uuid::Uuid;

    /// Whoever changes this text changes what tenants can reach: read it twice.
    const SPECIFICATION: &str = r#"{
  "Cmd": [],
  "Entrypoint": ["/.bulkhead/init"],
  "Env": ["BULKHEAD_SANDBOX_ID=sbx_00000000000000000000000000000004"],
  "Healthcheck": { "Test": ["NONE"] },
  "Hostname": "sandbox",
  "HostConfig": {
    "AutoRemove": false,
    "CapAdd": ["SETUID", "SETGID", "KILL", "SETPCAP"],
    "CapDrop": ["ALL"],
    "CgroupnsMode": "private",
    "CpuShares": 256,
    "Init": false,
    "IpcMode": "private",
    "LogConfig": { "Type": "none" },
    "Memory": 536870912,
    "MemorySwap": 536870912,
    "Mounts": [
      { "Type": "bind", "Source": "/run/b/x", "Target": "/.bulkhead/ctl", "ReadOnly": true },
      { "Type": "bind", "Source": "/opt/init", "Target": "/.bulkhead/init", "ReadOnly": true }
    ],
    "NanoCpus": 1000000000,
    "NetworkMode": "none",
    "PidsLimit": 128,
    "Privileged": false,
    "ReadonlyRootfs": true,
    "RestartPolicy": { "Name": "no" },
    "SecurityOpt": ["no-new-privileges:true"],
    "ShmSize": 67108864,
    "Tmpfs": {
      "/run": "rw,nosuid,nodev,noexec,size=1m",
      "/tmp": "rw,nosuid,nodev,noexec,size=64m,nr_inodes=4096,mode=1777",
      "/work": "rw,nosuid,nodev,exec,size=268435456,nr_inodes=65536,uid=10007,gid=10007,mode=0755"
    },
    "Ulimits": [
      { "Name": "nofile", "Soft": 1024, "Hard": 1024 },
      { "Name": "core", "Soft": 0, "Hard": 0 },
      { "Name": "memlock", "Soft": 65536, "Hard": 65536 },
      { "Name": "msgqueue", "Soft": 0, "Hard": 0 },
      { "Name": "sigpending", "Soft": 1024, "Hard": 1024 }
    ]
  },
  "Image": "sha256:5",
  "Labels": {
    "bulkhead.executor": "exr_00000000000000000000000000000001",
    "bulkhead.generation": "2",
    "bulkhead.sandbox": "sbx_00000000000000000000000000000004",
    "bulkhead.session": "ses_00000000000000000000000000000003",
    "bulkhead.tenant": "ten_00000000000000000000000000000002"
  },
  "NetworkDisabled": true,
  "User": "0:0",
  "WorkingDir": "/"
}"#;

    #[test]
    fn the_specification_is_exactly_this() {
        let body = container(&Blueprint {
            executor_id: Uuid::from_u128(1).into(),
            tenant_id: Uuid::from_u128(2).into(),
            session_id: Uuid::from_u128(3).into(),
            sandbox: SandboxRef { id: Uuid::from_u128(4).into(), generation: 2 },
            limits: SandboxLimits::default(),
            uid: 10_007,
            image_digest: "sha256:5",
            control_folder: Path::new("/run/b/x"),
            init_program: Path::new("/opt/init"),
        });
        let expected: serde_json::Value = serde_json::from_str(SPECIFICATION).expect("JSON");
        let actual = serde_json::to_value(body).expect("JSON");
        assert_eq!(
            serde_json::to_string_pretty(&actual).ok(),
            serde_json::to_string_pretty(&expected).ok()
        );
    }
}
