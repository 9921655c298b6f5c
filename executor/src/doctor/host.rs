//! Settings of the host's kernel that close whole classes of attacks.

use std::path::Path;

use super::{Control, advised};

/// See the module. Nothing where the kernel does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    io_uring_disabled: Option<u32>,
    legacy_tiocsti: Option<u32>,
    unprivileged_bpf_disabled: Option<u32>,
    ptrace_scope: Option<u32>,
}

impl HostFacts {
    /// Reads them from `/proc/sys`.
    pub fn read() -> Self {
        Self::read_in(Path::new("/proc/sys"))
    }

    fn read_in(root: &Path) -> Self {
        let number =
            |name: &str| std::fs::read_to_string(root.join(name)).ok()?.trim().parse().ok();
        Self {
            io_uring_disabled: number("kernel/io_uring_disabled"),
            legacy_tiocsti: number("dev/tty/legacy_tiocsti"),
            unprivileged_bpf_disabled: number("kernel/unprivileged_bpf_disabled"),
            ptrace_scope: number("kernel/yama/ptrace_scope"),
        }
    }

    pub(super) fn controls(&self) -> [Control; 4] {
        let at_least = |fact: Option<u32>, least| fact.is_some_and(|value| value >= least);
        [
            advised(
                "io_uring off",
                at_least(self.io_uring_disabled, 1),
                "a rich source of kernel holes, which the filter refuses too",
                "sysctl kernel.io_uring_disabled=2",
            ),
            advised(
                "no typing into terminals",
                self.legacy_tiocsti == Some(0),
                "nobody types for another, which the filter refuses too",
                "sysctl dev.tty.legacy_tiocsti=0",
            ),
            advised(
                "no unprivileged BPF",
                at_least(self.unprivileged_bpf_disabled, 1),
                "programs in the kernel are root's, which the filter says too",
                "sysctl kernel.unprivileged_bpf_disabled=1",
            ),
            advised(
                "restricted ptrace",
                at_least(self.ptrace_scope, 1),
                "processes cannot take each other over, which the filter says too",
                "sysctl kernel.yama.ptrace_scope=2",
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::Standing;
    use super::*;

    #[test]
    fn settings_are_read_and_absent_ones_are_no_protection() {
        let root = std::env::temp_dir().join(format!("bulkhead-{}", uuid::Uuid::now_v7()));
        for (name, value) in
            [("kernel/io_uring_disabled", "2\n"), ("dev/tty/legacy_tiocsti", "1\n")]
        {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, value).expect("writes");
        }
        let standing = HostFacts::read_in(&root).controls().map(|control| control.standing);
        let expected = [Standing::Present, Standing::Advised, Standing::Advised, Standing::Advised];
        assert_eq!(standing, expected);
        std::fs::remove_dir_all(root).expect("removes");
    }
}
