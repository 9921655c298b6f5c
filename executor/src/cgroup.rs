//! Reads how often the kernel killed something in a container for want of memory, from cgroup v1
//! or v2. Whatever cannot be read counts as unknown, never as none.

use std::path::PathBuf;

/// Where a container's counter stands.
#[derive(Debug, Clone)]
pub(crate) struct OomCounter {
    file: PathBuf,
}

impl OomCounter {
    /// The counter of the container whose PID 1 has this number on the host.
    pub(crate) fn of_process(pid: i64) -> Option<Self> {
        let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let file = counter_file(&table)?;
        file.exists().then_some(Self { file })
    }

    /// The kills so far.
    pub(crate) fn read(&self) -> Option<u64> {
        parse_oom_kills(&std::fs::read_to_string(&self.file).ok()?)
    }
}

/// v1 has a line such as `4:memory:/docker/…`, v2 only `0::/…`.
fn counter_file(table: &str) -> Option<PathBuf> {
    let mut unified = None;
    for line in table.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let path = path.trim_start_matches('/');
        if controllers.split(',').any(|name| name == "memory") {
            let root = PathBuf::from("/sys/fs/cgroup/memory");
            return Some(root.join(path).join("memory.oom_control"));
        }
        if controllers.is_empty() {
            unified = Some(PathBuf::from("/sys/fs/cgroup").join(path).join("memory.events"));
        }
    }
    unified
}

fn parse_oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cgroup_versions_are_found() {
        let v1 = "5:pids:/docker/a\n4:memory:/docker/a\n0::/";
        let v2 = "0::/system.slice/docker-a.scope";
        let path = |table| counter_file(table).map(|path| path.display().to_string());
        assert_eq!(path(v1).as_deref(), Some("/sys/fs/cgroup/memory/docker/a/memory.oom_control"));
        assert_eq!(
            path(v2).as_deref(),
            Some("/sys/fs/cgroup/system.slice/docker-a.scope/memory.events")
        );
        assert_eq!(path(""), None);
    }

    #[test]
    fn the_kill_counter_is_not_confused_with_its_neighbours() {
        assert_eq!(parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse_oom_kills("low 0\noom 7\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse_oom_kills("oom_kill_disable 0\n"), None);
    }
}
