//! The system call filter of every sandbox, in Docker's format: what is not allowed fails with
//! EPERM. Calls of another architecture's table end the thread: 32-bit programs do not run.

use std::sync::LazyLock;

use serde::Serialize;

use super::cover::{Block, everything_but};
use super::syscalls::ALLOWED;

/// All bits of an argument that the kernel reads as `int`.
const INT: u64 = 0xffff_ffff;
/// `CLONE_NEW…` flags of clone: cgroup, uts, ipc, user, pid, net and mount namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Socket families that may be made: `AF_UNIX`, `AF_INET`, `AF_INET6`.
const FAMILIES: [u64; 3] = [1, 2, 10];
const AF_UNIX: u64 = 1;
const AF_NETLINK: u64 = 16;
/// Lists interfaces and addresses, which `getaddrinfo` and `ip` do.
const NETLINK_ROUTE: u64 = 0;
/// ioctls that type into a terminal or load code for it: TIOCSTI, TIOCLINUX, TIOCSETD.
const FORBIDDEN_IOCTLS: [u32; 3] = [0x5412, 0x541c, 0x5423];
/// What `personality` may be asked for: to set the usual one, and to tell the present one.
const PERSONALITIES: [u64; 2] = [0, INT];
/// The file type bits of a mode, and of a named pipe, the one thing that mknod may make.
const FILE_TYPE: u64 = 0xf000;
const NAMED_PIPE: u64 = 0x1000;
/// `ENOSYS`: the C library then uses clone, whose flags can be checked.
const ENOSYS: u32 = 38;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    default_action: &'static str,
    architectures: [&'static str; 1],
    syscalls: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<&'static str>,
    action: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Comparison>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
}

/// True when the argument agrees with `value_two` in the bits of `value`, which is the mask.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Comparison {
    index: u32,
    value: u64,
    value_two: u64,
    op: &'static str,
}

/// The filter as JSON text, as `seccomp=…` of a container's security options takes it.
pub(crate) fn filter() -> &'static str {
    // No profile at all would mean Docker's own; text that is no JSON makes it refuse.
    static TEXT: LazyLock<String> =
        LazyLock::new(|| serde_json::to_string(&build()).unwrap_or_else(|_| "none".into()));
    &TEXT
}

fn build() -> Filter {
    let mut syscalls = vec![allow(ALLOWED.concat(), Vec::new())];
    syscalls.push(allow(vec!["clone"], vec![masked(0, NEW_NAMESPACES, 0)]));
    syscalls.push(Rule {
        action: "SCMP_ACT_ERRNO",
        errno_ret: Some(ENOSYS),
        ..allow(vec!["clone3"], Vec::new())
    });
    for family in FAMILIES {
        syscalls.push(allow(vec!["socket"], vec![masked(0, INT, family)]));
    }
    let route = vec![masked(0, INT, AF_NETLINK), masked(2, INT, NETLINK_ROUTE)];
    syscalls.push(allow(vec!["socket"], route));
    syscalls.push(allow(vec!["socketpair"], vec![masked(0, INT, AF_UNIX)]));
    for persona in PERSONALITIES {
        syscalls.push(allow(vec!["personality"], vec![masked(0, INT, persona)]));
    }
    syscalls.push(allow(vec!["mknod"], vec![masked(1, FILE_TYPE, NAMED_PIPE)]));
    syscalls.push(allow(vec!["mknodat"], vec![masked(2, FILE_TYPE, NAMED_PIPE)]));
    for Block { mask, value } in everything_but(&FORBIDDEN_IOCTLS) {
        syscalls.push(allow(vec!["ioctl"], vec![masked(1, mask.into(), value.into())]));
    }
    let architecture =
        if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    Filter { default_action: "SCMP_ACT_ERRNO", architectures: [architecture], syscalls }
}

fn allow(names: Vec<&'static str>, args: Vec<Comparison>) -> Rule {
    Rule { names, action: "SCMP_ACT_ALLOW", args, errno_ret: None }
}

fn masked(index: u32, mask: u64, value: u64) -> Comparison {
    Comparison { index, value: mask, value_two: value, op: "SCMP_CMP_MASKED_EQ" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conditional_call_has_no_unconditional_rule_and_compares_an_argument_once() {
        let filter = build();
        let conditional: Vec<_> =
            filter.syscalls.iter().filter(|rule| !rule.args.is_empty()).collect();
        for rule in &conditional {
            let mut indices: Vec<_> = rule.args.iter().map(|arg| arg.index).collect();
            indices.dedup();
            assert_eq!(indices.len(), rule.args.len(), "{:?}", rule.names);
            for other in filter.syscalls.iter().filter(|other| other.args.is_empty()) {
                assert!(!other.names.contains(&rule.names[0]), "{:?}", rule.names);
            }
        }
        assert!(conditional.len() > 40);
    }

    #[test]
    fn the_filter_refuses_by_default_and_is_json() {
        let value: serde_json::Value = serde_json::from_str(filter()).expect("JSON");
        assert_eq!(value["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(value["syscalls"][0]["action"], "SCMP_ACT_ALLOW");
    }
}
