//! Signals to everything below a shepherd. Nothing can leave the tree: who loses its parent becomes
//! the shepherd's child.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often the tree is looked at for processes that were forked meanwhile.
const MAX_PASSES: usize = 16;

/// Sends `signal` to every process that is below `shepherd` now.
pub(crate) fn signal_all(shepherd: Pid, signal: Signal) {
    for pid in descendants(shepherd.as_raw(), &parents()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Kills every process below `shepherd`.
pub(crate) fn kill_all(shepherd: Pid) {
    kill_found(|| descendants(shepherd.as_raw(), &parents()));
}

/// Kills everything but PID 1 and these shepherds with what is below them.
pub(crate) fn kill_strays(shepherds: &BTreeSet<Pid>) {
    kill_found(|| strays(Pid::this().as_raw(), shepherds, &parents()));
}

/// Kills what `find` finds. It is stopped first: what stands still cannot fork, and keeps its place
/// under the limit of processes, so that a fork bomb comes to rest. What slips through all passes is
/// left for the next call.
fn kill_found(find: impl Fn() -> BTreeSet<i32>) {
    let mut stopped = BTreeSet::new();
    for _ in 0..MAX_PASSES {
        let before = stopped.len();
        for pid in find() {
            if stopped.insert(pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
            }
        }
        if stopped.len() == before {
            break;
        }
    }
    for pid in find() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// What is below `init` by another way than through one of its shepherds.
fn strays(init: i32, shepherds: &BTreeSet<Pid>, parents: &BTreeMap<i32, i32>) -> BTreeSet<i32> {
    let kept: BTreeMap<i32, i32> = parents
        .iter()
        .filter(|(pid, _)| !shepherds.contains(&Pid::from_raw(**pid)))
        .map(|(pid, parent)| (*pid, *parent))
        .collect();
    descendants(init, &kept)
}

/// Each process's parent, as far as one look at `/proc` tells.
fn parents() -> BTreeMap<i32, i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| {
            let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse_parent(&stat)?))
        })
        .collect()
}

/// The parent in `pid (name) state parent …`. The name is the command's to choose: any bytes.
fn parse_parent(stat: &[u8]) -> Option<i32> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// All processes below `root`, without itself.
fn descendants(root: i32, parents: &BTreeMap<i32, i32>) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut frontier = vec![root];
    while let Some(parent) = frontier.pop() {
        let children = parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid);
        frontier.extend(children.filter(|pid| found.insert(*pid)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_parent() {
        assert_eq!(parse_parent(b"7 (sleep) S 3 7 7 0"), Some(3));
        assert_eq!(parse_parent(b"7 (a) R 1 (\xff) S 3 7 7 0"), Some(3));
        assert_eq!(parse_parent(b"7 (sleep"), None);
        assert_eq!(parse_parent(b""), None);
    }

    #[test]
    fn descendants_are_all_generations_and_nobody_elses() {
        let parents = [(1, 0), (2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (7, 2)].into();
        assert_eq!(descendants(2, &parents), [3, 4, 7].into());
        assert_eq!(descendants(6, &parents), [].into());
    }

    #[test]
    fn strays_are_what_no_shepherd_keeps() {
        let parents = [(1, 0), (2, 1), (3, 2), (4, 1), (5, 4), (6, 0)].into();
        assert_eq!(strays(1, &[Pid::from_raw(2)].into(), &parents), [4, 5].into());
    }

    #[test]
    fn this_process_has_a_parent() {
        let own = nix::unistd::Pid::this().as_raw();
        let parent = nix::unistd::getppid().as_raw();
        assert_eq!(parents().get(&own), Some(&parent));
    }
}
