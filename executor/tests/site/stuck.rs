//! Tells what the kernel says of a command that makes no progress, before its time is over: whatever
//! held it up is gone afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// In how many looks it was there.
const LONG: u32 = 15;

/// Looks as long as it lives.
pub struct Watch {
    _stop: Sender<()>,
}

impl Watch {
    /// Watches for processes that have `word` in their command line.
    pub fn of(word: String) -> Self {
        let (stop, stopped) = channel::<()>();
        thread::spawn(move || {
            let (mut last, mut looks) = (BTreeSet::new(), 0);
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let found: BTreeSet<_> = processes().filter(|it| has(it, &word)).collect();
                looks = if found.is_disjoint(&last) { 0 } else { looks + 1 };
                last = found;
                if looks == LONG {
                    last.iter().for_each(|process| tell(process));
                }
            }
        });
        Self { _stop: stop }
    }
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").expect("there is /proc").flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join("wchan").exists())
}

fn read(process: &Path, name: &str) -> String {
    let bytes = fs::read(process.join(name)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn has(process: &Path, word: &str) -> bool {
    // The test itself, and whoever runs the executor, live in another namespace of processes.
    namespace(process) != namespace(Path::new("/proc/self"))
        && read(process, "cmdline").contains(word)
}

fn namespace(process: &Path) -> Option<PathBuf> {
    fs::read_link(process.join("ns/pid")).ok()
}

/// Everything about the sandbox of `process`.
fn tell(process: &Path) {
    let sandbox = namespace(process);
    for neighbour in processes().filter(|it| namespace(it) == sandbox) {
        eprintln!("stuck: {} {}", neighbour.display(), read(&neighbour, "cmdline"));
        for name in ["wchan", "syscall", "stack", "status"] {
            eprintln!("{name}: {}", read(&neighbour, name));
        }
        for descriptor in fs::read_dir(neighbour.join("fd")).into_iter().flatten().flatten() {
            eprintln!("{:?} -> {:?}", descriptor.file_name(), fs::read_link(descriptor.path()));
        }
    }
}
