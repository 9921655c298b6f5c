//! Signals to everything below a shepherd. Nothing can leave the tree: who loses its parent becomes
//! the shepherd's child.

use std::collections::{BTreeMap, BTreeSet};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often the tree is looked at for processes that were forked meanwhile.
const MAX_PASSES: usize = 16;
/// Fields of `/proc/…/stat` between the parent and the number of threads.
const THREADS_BEHIND_PARENT: usize = 15;

/// A process as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Process {
    parent: i32,
    state: State,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// It runs or waits.
    Live,
    /// Somebody has stopped it.
    Stopped,
    /// It ended, and its parent has not heard of it yet.
    Zombie,
}

type Processes = BTreeMap<i32, Process>;

/// Sends a signal, by its number, to every process that is below `shepherd` now. Gives how many
/// live ones got it.
pub(crate) fn signal_all(shepherd: Pid, signal: i32) -> usize {
    // SAFETY: plain integers go in. (There are signals that `nix` has no name for.)
    let send = |pid: i32| unsafe { libc::kill(pid, signal) } == 0;
    live_descendants(shepherd).into_iter().filter(|pid| send(*pid)).count()
}

/// Stops every process below `shepherd` that is not stopped: parents before their children, so that
/// none sees a child stopped. Gives which they are, in this order.
pub(crate) fn stop_running(shepherd: Pid) -> Vec<i32> {
    let processes = processes();
    let live = |pid: &i32| processes.get(pid).is_some_and(|found| found.state == State::Live);
    let found: Vec<i32> = generations(shepherd.as_raw(), &processes);
    let found: Vec<i32> = found.into_iter().filter(live).collect();
    found.iter().for_each(|pid| stop_threads(*pid));
    found
}

/// Stops a process by each of its threads. The signal to a process is given to one that may not hear
/// it, while another one goes on waiting.
fn stop_threads(pid: i32) {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for thread in tasks.filter_map(|task| task.file_name().to_str()?.parse::<i32>().ok()) {
        // SAFETY: plain integers go in.
        unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, libc::SIGSTOP) };
    }
}

/// Continues processes that were stopped in this order, children first.
pub(crate) fn let_go_on(stopped: &[i32]) {
    for pid in stopped.iter().rev() {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
    }
}

/// How many processes live below `shepherd`.
pub(crate) fn count_live(shepherd: Pid) -> u32 {
    u32::try_from(live_descendants(shepherd).len()).unwrap_or(u32::MAX)
}

fn live_descendants(shepherd: Pid) -> BTreeSet<i32> {
    let processes = processes();
    let mut found = descendants(shepherd.as_raw(), &processes);
    found.retain(|pid| processes.get(pid).is_some_and(|process| process.state != State::Zombie));
    found
}

/// Kills every process below `shepherd`.
pub(crate) fn kill_all(shepherd: Pid) {
    kill_found(|| descendants(shepherd.as_raw(), &processes()));
}

/// Kills everything but PID 1 and these shepherds with what is below them. Gives whether there was
/// anything.
pub(crate) fn kill_strays(shepherds: &BTreeSet<Pid>) -> bool {
    kill_found(|| strays(Pid::this().as_raw(), shepherds, &processes()))
}

/// Kills what `find` finds. It is stopped first: what stands still cannot fork, and keeps its place
/// under the limit of processes, so that a fork bomb comes to rest. What slips through all passes is
/// left for the next call. Gives whether it found anything.
fn kill_found(find: impl Fn() -> BTreeSet<i32>) -> bool {
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
    !stopped.is_empty()
}

/// What is below `init` by another way than through one of its shepherds.
fn strays(init: i32, shepherds: &BTreeSet<Pid>, processes: &Processes) -> BTreeSet<i32> {
    let kept: Processes = processes
        .iter()
        .filter(|(pid, _)| !shepherds.contains(&Pid::from_raw(**pid)))
        .map(|(pid, process)| (*pid, *process))
        .collect();
    descendants(init, &kept)
}

/// All processes, as far as one look at `/proc` tells.
fn processes() -> Processes {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| {
            let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse_stat(&stat)?))
        })
        .collect()
}

/// A process from `pid (name) state parent …`. The name is the command's to choose: any bytes.
fn parse_stat(stat: &[u8]) -> Option<Process> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let letter = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let threads: i64 =
        fields.nth(THREADS_BEHIND_PARENT).and_then(|it| it.parse().ok()).unwrap_or(0);
    let state = match letter {
        // Its first thread has ended: so has the process, unless other threads go on.
        "Z" if threads > 1 => State::Live,
        "Z" | "X" => State::Zombie,
        "T" | "t" => State::Stopped,
        _ => State::Live,
    };
    Some(Process { parent, state })
}

/// All processes below `root`, without itself.
fn descendants(root: i32, processes: &Processes) -> BTreeSet<i32> {
    generations(root, processes).into_iter().collect()
}

/// The same, parents before their children.
fn generations(root: i32, processes: &Processes) -> Vec<i32> {
    let (mut found, mut next) = (Vec::new(), vec![root]);
    let mut seen = BTreeSet::from([root]);
    while !next.is_empty() {
        let children = processes.iter().filter(|(_, process)| next.contains(&process.parent));
        let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
        next = children.into_iter().filter(|pid| seen.insert(*pid)).collect();
        found.extend(&next);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family<const N: usize>(parents: [(i32, i32); N]) -> Processes {
        parents.map(|(pid, parent)| (pid, Process { parent, state: State::Live })).into()
    }

    #[test]
    fn a_name_cannot_forge_a_parent() {
        let some = |state, parent| Some(Process { parent, state });
        assert_eq!(parse_stat(b"7 (sleep) S 3 7 7 0"), some(State::Live, 3));
        assert_eq!(parse_stat(b"7 (a) R 1 (\xff) S 3 7 7 0"), some(State::Live, 3));
        assert_eq!(parse_stat(b"7 (a) Z 3 7 7 0"), some(State::Zombie, 3));
        assert_eq!(parse_stat(b"7 (a) T 3 7 7 0"), some(State::Stopped, 3));
        let stat =
            |threads| format!("7 (a) Z 3 7 7 0 -1 4227084 0 0 0 0 0 0 0 0 20 0 {threads} 0 9");
        assert_eq!(parse_stat(stat(2).as_bytes()), some(State::Live, 3));
        assert_eq!(parse_stat(stat(1).as_bytes()), some(State::Zombie, 3));
        assert_eq!(parse_stat(stat(0).as_bytes()), some(State::Zombie, 3));
        assert_eq!(parse_stat(b"7 (sleep"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn descendants_are_all_generations_and_nobody_elses() {
        let tree = family([(1, 0), (2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (7, 2)]);
        assert_eq!(descendants(2, &tree), [3, 4, 7].into());
        assert_eq!(descendants(6, &tree), [].into());
        let late = family([(9, 0), (2, 9), (8, 2), (3, 8), (1, 3), (7, 9)]);
        assert_eq!(generations(9, &late), [2, 7, 8, 3, 1]);
    }

    #[test]
    fn strays_are_what_no_shepherd_keeps() {
        let family = family([(1, 0), (2, 1), (3, 2), (4, 1), (5, 4), (6, 0)]);
        assert_eq!(strays(1, &[Pid::from_raw(2)].into(), &family), [4, 5].into());
    }

    #[test]
    fn this_process_has_a_parent() {
        let own = nix::unistd::Pid::this().as_raw();
        let parent = nix::unistd::getppid().as_raw();
        assert_eq!(processes().get(&own), Some(&Process { parent, state: State::Live }));
    }
}
