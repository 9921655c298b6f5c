//! The specification of a sandbox, word for word, and what changes it.

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
    "MaskedPaths": [
      "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
      "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
      "/proc/interrupts", "/sys/devices/virtual/powercap", "/sys/class/powercap"
    ],
    "Memory": 536870912,
    "MemorySwap": 536870912,
    "MemorySwappiness": 0,
    "Mounts": [
      { "Type": "bind", "Source": "/run/b/x", "Target": "/.bulkhead/ctl", "ReadOnly": true },
      { "Type": "bind", "Source": "/opt/init", "Target": "/.bulkhead/init", "ReadOnly": true },
      {
        "Type": "volume", "Source": "bulkhead-sbx", "Target": "/work", "ReadOnly": false,
        "VolumeOptions": {
          "NoCopy": true,
          "Labels": {
            "bulkhead.executor": "exr_00000000000000000000000000000001",
            "bulkhead.sandbox": "sbx_00000000000000000000000000000004",
            "bulkhead.tenant": "ten_00000000000000000000000000000002"
          },
          "DriverConfig": {
            "Name": "local",
            "Options": {
              "type": "ext4",
              "device": "/run/b/x.disk",
              "o": "nosuid,nodev,discard,noinit_itable,errors=remount-ro"
            }
          }
        }
      }
    ],
    "NanoCpus": 1000000000,
    "NetworkMode": "none",
    "PidsLimit": 128,
    "Privileged": false,
    "ReadonlyPaths": [
      "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys/fs/cgroup"
    ],
    "ReadonlyRootfs": true,
    "RestartPolicy": { "Name": "no" },
    "Runtime": "runsc",
    "SecurityOpt": ["no-new-privileges:true", "seccomp=the filter", "apparmor=docker-default"],
    "ShmSize": 67108864,
    "Sysctls": {
      "kernel.msgmni": "16",
      "kernel.sem": "250 4000 100 16",
      "kernel.shm_rmid_forced": "1"
    },
    "Tmpfs": {
      "/run": "rw,nosuid,nodev,noexec,size=1m",
      "/tmp": "rw,nosuid,nodev,noexec,size=67108864,nr_inodes=4096,mode=1777"
    },
    "Ulimits": [
      { "Name": "nofile", "Soft": 1024, "Hard": 1024 },
      { "Name": "core", "Soft": 0, "Hard": 0 },
      { "Name": "fsize", "Soft": 268435456, "Hard": 268435456 },
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

fn blueprint<'a>(host: &'a HostFeatures, work: WorkMount<'a>) -> Blueprint<'a> {
    Blueprint {
        executor_id: Uuid::from_u128(1).into(),
        tenant_id: Uuid::from_u128(2).into(),
        sandbox_id: Uuid::from_u128(4).into(),
        purpose: Purpose::Session(Uuid::from_u128(3).into(), 2),
        limits: SandboxLimits::default(),
        uid: 10_007,
        image_digest: "sha256:5",
        work,
        control_folder: Path::new("/run/b/x"),
        init_program: Path::new("/opt/init"),
        host,
    }
}

#[test]
fn the_specification_is_exactly_this() {
    let host = HostFeatures { runtime: Some("runsc".into()), apparmor: true, cgroup_v1: true };
    let work = WorkMount::Disk { volume: "bulkhead-sbx", device: Path::new("/run/b/x.disk") };
    let mut body = container(&blueprint(&host, work));
    // The filter has tests of its own; that it is there is said here.
    let options = body.host_config.as_mut().and_then(|host| host.security_opt.as_mut());
    for option in options.into_iter().flatten() {
        *option = option.replace(seccomp::filter(), "the filter");
    }
    let mut expected: serde_json::Value = serde_json::from_str(SPECIFICATION).expect("JSON");
    let mut actual = serde_json::to_value(body).expect("JSON");
    expected.sort_all_objects();
    actual.sort_all_objects();
    assert_eq!(
        serde_json::to_string_pretty(&actual).ok(),
        serde_json::to_string_pretty(&expected).ok()
    );
}

#[test]
fn a_workspace_in_memory_has_its_size_and_no_volume() {
    let host = HostFeatures::default();
    let body = container(&blueprint(&host, WorkMount::Memory)).host_config.expect("host");
    assert_eq!(
        body.tmpfs.expect("tmpfs")["/work"],
        "rw,nosuid,nodev,exec,size=268435456,nr_inodes=65536,uid=10007,gid=10007,mode=0755"
    );
    let mounts = body.mounts.expect("mounts");
    assert_eq!(mounts.len(), 3);
    assert_eq!(mounts[2].target.as_deref(), Some("/dev/pts"));
    assert_eq!(mounts[2].source, Some(terminals_name(Uuid::from_u128(4).into())));
    let options = mounts[2].volume_options.clone().and_then(|options| options.driver_config);
    assert_eq!(
        options.and_then(|driver| driver.options).expect("options")["o"],
        "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5,max=32"
    );
    assert_eq!(body.memory_swappiness, None);
}

#[test]
fn what_fills_the_folders_in_memory_leaves_half_of_it() {
    let host = HostFeatures::default();
    let limits = SandboxLimits { memory_bytes: 64 << 20, ..SandboxLimits::default() };
    let small = Blueprint { limits, ..blueprint(&host, WorkMount::Memory) };
    let config = container(&small).host_config.expect("host");
    assert_eq!(config.shm_size, Some(16 << 20));
    let tmpfs = config.tmpfs.expect("tmpfs");
    assert!(tmpfs["/tmp"].contains("size=16777216,"), "{}", tmpfs["/tmp"]);
}

#[test]
fn the_recipe_changes_with_what_is_made_and_not_with_whom_it_is_for() {
    let (host, other) = (
        HostFeatures::default(),
        HostFeatures { runtime: Some("runsc".into()), ..HostFeatures::default() },
    );
    let first = blueprint(&host, WorkMount::Memory);
    let same = Blueprint { sandbox_id: Uuid::from_u128(9).into(), ..first };
    assert_eq!(recipe(&first), recipe(&same));
    assert_ne!(recipe(&first), recipe(&Blueprint { uid: 7, ..first }));
    assert_ne!(recipe(&first), recipe(&Blueprint { host: &other, ..first }));
    assert_ne!(recipe(&first), recipe(&Blueprint { image_digest: "sha256:6", ..first }));
}
