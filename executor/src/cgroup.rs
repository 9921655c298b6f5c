//! Reads a container's cgroup, v1 or v2: kills for want of memory, and how many processes it has; sets
//! there what Docker cannot. Whatever cannot be read counts as unknown, never as none.

use std::path::{Path, PathBuf};

/// Buffers that a sandbox's own connections may take, in bytes.
const MAX_TCP_BYTES: u64 = 32 << 20;
const TCP_LIMIT: &str = "memory.kmem.tcp.limit_in_bytes";

/// Where a container's counters stand.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    oom_kills: Option<PathBuf>,
    processes: Option<PathBuf>,
    /// v1 only, where buffers of TCP are not memory unless they have a limit of their own.
    tcp_limit: Option<PathBuf>,
}

impl Cgroup {
    /// The cgroup of the container whose PID 1 has this number on the host.
    pub(crate) fn of_process(pid: i64) -> Option<Self> {
        let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Some(Self::locate(Path::new("/sys/fs/cgroup"), &table))
    }

    /// v1 has lines such as `4:memory:/docker/…`, v2 only `0::/…`.
    fn locate(root: &Path, table: &str) -> Self {
        let file = |controller: &str, v1: &str, v2: &str| {
            let path = match (find(table, controller), find(table, "")) {
                (Some(path), _) => root.join(controller).join(path).join(v1),
                (None, Some(path)) => root.join(path).join(v2),
                (None, None) => return None,
            };
            path.exists().then_some(path)
        };
        Self {
            oom_kills: file("memory", "memory.oom_control", "memory.events"),
            processes: file("pids", "pids.current", "pids.current"),
            tcp_limit: find(table, "memory")
                .map(|path| root.join("memory").join(path).join(TCP_LIMIT))
                .filter(|path| path.exists()),
        }
    }

    /// Limits what buffers of TCP take on top of the memory, where they are not part of it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn limit_tcp(&self) -> std::io::Result<()> {
        let Some(path) = &self.tcp_limit else { return Ok(()) };
        std::fs::write(path, MAX_TCP_BYTES.to_string())
    }

    /// The kernel's kills for want of memory so far.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        parse_oom_kills(&std::fs::read_to_string(self.oom_kills.as_ref()?).ok()?)
    }

    /// The processes and threads of now, PID 1 included.
    pub(crate) fn processes(&self) -> Option<u64> {
        std::fs::read_to_string(self.processes.as_ref()?).ok()?.trim().parse().ok()
    }
}

/// The path of the line with this controller, relative to the root.
fn find<'a>(table: &'a str, controller: &str) -> Option<&'a str> {
    table.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let found = controllers.split(',').any(|name| name == controller);
        found.then(|| path.trim_start_matches('/'))
    })
}

fn parse_oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cgroup file system with these files.
    fn tree(files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("bulkhead-{}", uuid::Uuid::now_v7()));
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, text).expect("writes");
        }
        root
    }

    #[test]
    fn both_cgroup_versions_are_read() {
        let v1 = tree(&[
            ("memory/docker/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            ("pids/docker/a/pids.current", "7\n"),
            ("memory/docker/a/memory.kmem.tcp.limit_in_bytes", "9223372036854771712\n"),
        ]);
        let cgroup = Cgroup::locate(&v1, "5:pids:/docker/a\n4:memory:/docker/a\n0::/");
        assert_eq!((cgroup.oom_kills(), cgroup.processes()), (Some(3), Some(7)));
        cgroup.limit_tcp().expect("limits");
        let limit = std::fs::read_to_string(v1.join("memory/docker/a").join(TCP_LIMIT));
        assert_eq!(limit.expect("reads"), "33554432");

        let scope = "system.slice/docker-a.scope";
        let v2 = tree(&[
            (&format!("{scope}/memory.events"), "low 0\noom 7\noom_kill 2\noom_group_kill 0\n"),
            (&format!("{scope}/pids.current"), "1\n"),
        ]);
        let cgroup = Cgroup::locate(&v2, &format!("0::/{scope}"));
        assert_eq!((cgroup.oom_kills(), cgroup.processes()), (Some(2), Some(1)));
        cgroup.limit_tcp().expect("it is memory like all other");

        let cgroup = Cgroup::locate(&v2, "");
        assert_eq!((cgroup.oom_kills(), cgroup.processes()), (None, None));
        for root in [v1, v2] {
            std::fs::remove_dir_all(root).expect("removes");
        }
    }

    #[test]
    fn the_kill_counter_is_not_confused_with_its_neighbours() {
        assert_eq!(parse_oom_kills("oom_kill_disable 0\n"), None);
    }
}
