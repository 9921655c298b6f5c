//! Loop devices: which file is behind which device, attaching one and letting it go.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::WorkspaceError;
use super::program;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a device that somebody still has mounted is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const BUSY_POLL: Duration = Duration::from_millis(20);
/// What the kernel adds to the name of a file that was removed.
const DELETED: &str = " (deleted)";

/// A device in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoopDevice {
    pub(crate) device: PathBuf,
    /// The file behind it, which may be removed already.
    pub(crate) file: PathBuf,
}

/// Every loop device with a file behind it.
pub(crate) fn list() -> Vec<LoopDevice> {
    list_in(Path::new("/sys/block"))
}

fn list_in(blocks: &Path) -> Vec<LoopDevice> {
    let entries = std::fs::read_dir(blocks).into_iter().flatten().flatten();
    let device = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let file = std::fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        let file = file.trim_end_matches('\n');
        let file = file.strip_suffix(DELETED).unwrap_or(file);
        Some(LoopDevice { device: Path::new("/dev").join(name), file: file.into() })
    };
    entries.filter_map(device).collect()
}

/// Attaches a file, whose former devices must be gone: one file system behind two of them would be
/// destroyed.
pub(crate) async fn attach(file: &Path) -> Result<PathBuf, WorkspaceError> {
    release(file).await?;
    let args = [OsStr::new("-f"), OsStr::new("--show"), file.as_os_str()];
    let device = program::succeed("losetup", &args, TIMEOUT).await?;
    Ok(PathBuf::from(device.trim()))
}

/// Lets every device of a file go. One that is still mounted goes with its last user.
pub(crate) async fn detach(file: &Path) -> Result<(), WorkspaceError> {
    for found in list().into_iter().filter(|found| found.file == file) {
        let args = [OsStr::new("-d"), found.device.as_os_str()];
        if let Err(error) = program::succeed("losetup", &args, TIMEOUT).await {
            // It may have gone by itself meanwhile.
            if list().contains(&found) {
                return Err(error.into());
            }
        }
    }
    Ok(())
}

/// The same, and waits until they are gone.
pub(crate) async fn release(file: &Path) -> Result<(), WorkspaceError> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    while list().iter().any(|found| found.file == file) {
        detach(file).await?;
        if Instant::now() > deadline {
            return Err(WorkspaceError::Busy);
        }
        tokio::time::sleep(BUSY_POLL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_by_their_files_even_removed_ones() {
        let root = std::env::temp_dir().join(format!("bulkhead-{}", uuid::Uuid::now_v7()));
        for (name, file) in [("loop0", "/data/a.img\n"), ("loop1", "/data/b.img (deleted)\n")] {
            std::fs::create_dir_all(root.join(name).join("loop")).expect("folder");
            std::fs::write(root.join(name).join("loop/backing_file"), file).expect("writes");
        }
        std::fs::create_dir_all(root.join("loop2")).expect("folder");
        let mut found = list_in(&root);
        found.sort_by(|a, b| a.device.cmp(&b.device));
        let device = |name: &str, file: &str| LoopDevice {
            device: Path::new("/dev").join(name),
            file: file.into(),
        };
        assert_eq!(found, [device("loop0", "/data/a.img"), device("loop1", "/data/b.img")]);
        std::fs::remove_dir_all(root).expect("removes");
    }
}
