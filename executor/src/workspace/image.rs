//! Image files with an ext4 file system: made from a template of their size, checked and repaired
//! before they are used again. Never reads what tenants wrote: that is the kernel's to interpret.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use nix::unistd::{Whence, lseek};

use super::WorkspaceError;
use super::program;

/// Block size of the file system, in bytes; sizes are rounded up to it.
const BLOCK_BYTES: u64 = 4096;
const MAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// A repair reads all of the metadata of at most 16 GiB.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(120);
/// Where ext4 keeps its magic number and, behind it, its state.
const MAGIC_AT: u64 = 1024 + 56;
const MAGIC: u16 = 0xef53;
/// State: unmounted in order, and no error seen.
const CLEAN: u16 = 1;

/// The file's size for a workspace of so many bytes.
pub(crate) fn image_bytes(workspace_bytes: u64) -> u64 {
    workspace_bytes.next_multiple_of(BLOCK_BYTES)
}

/// One file per block for small ones, one per 16 KiB for large ones, as ext4 does by itself.
fn inodes(bytes: u64) -> u64 {
    (bytes / BLOCK_BYTES).min(65_536).max(bytes / (16 << 10))
}

/// Makes an image with an empty file system whose root belongs to `uid`.
pub(crate) async fn format(path: &Path, bytes: u64, uid: u32) -> Result<(), WorkspaceError> {
    let file = create(path)?;
    file.set_len(bytes).map_err(WorkspaceError::io(path))?;
    drop(file);
    let inodes = inodes(bytes).to_string();
    let block = BLOCK_BYTES.to_string();
    // No journal: a crash is rare and repaired, every write is not. `nodiscard`: it is all hole.
    let extended = format!("lazy_itable_init=1,root_owner={uid}:{uid},nodiscard");
    let options = ["-q", "-F", "-b", &block, "-O", "^has_journal,^resize_inode", "-E", &extended]
        .into_iter()
        .chain(["-e", "remount-ro", "-m", "0", "-N", &inodes]);
    let args: Vec<&OsStr> = options.map(OsStr::new).chain([path.as_os_str()]).collect();
    program::succeed("mkfs.ext4", &args, MAKE_TIMEOUT).await?;
    remove_lost_and_found(path).await
}

/// It is root's, so a tenant could only wonder about it.
async fn remove_lost_and_found(path: &Path) -> Result<(), WorkspaceError> {
    let args = ["-w", "-R", "rmdir lost+found"].map(OsStr::new);
    let args = [&args[..], &[path.as_os_str()]].concat();
    program::succeed("debugfs", &args, MAKE_TIMEOUT).await?;
    Ok(())
}

/// Copies an image, holes as holes: some hundred KiB whatever its size.
pub(crate) fn copy_sparse(from: &Path, to: &Path) -> Result<(), WorkspaceError> {
    let mut source = File::open(from).map_err(WorkspaceError::io(from))?;
    let bytes = source.metadata().map_err(WorkspaceError::io(from))?.len();
    let mut target = create(to)?;
    let copied = (|| {
        target.set_len(bytes)?;
        let mut at = 0;
        while let Some(start) = seek(&source, at, Whence::SeekData)? {
            let end = seek(&source, start, Whence::SeekHole)?.unwrap_or(bytes as i64);
            source.seek(SeekFrom::Start(start as u64))?;
            target.seek(SeekFrom::Start(start as u64))?;
            std::io::copy(&mut (&mut source).take((end - start) as u64), &mut target)?;
            at = end;
        }
        target.flush()
    })();
    copied.map_err(WorkspaceError::io(to))
}

/// Nothing when there is no data behind `at`.
fn seek(file: &File, at: i64, whence: Whence) -> std::io::Result<Option<i64>> {
    match lseek(file, at, whence) {
        Ok(found) => Ok(Some(found)),
        Err(nix::errno::Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes sure that the file system can be mounted: one that was not unmounted in order is repaired.
///
/// # Errors
/// [`WorkspaceError::Lost`] when there is none or it is beyond repair.
pub(crate) async fn check(path: &Path) -> Result<(), WorkspaceError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(WorkspaceError::Lost);
        }
        Err(error) => return Err(WorkspaceError::io(path)(error)),
    };
    let mut field = [0; 4];
    match file.read_exact_at(&mut field, MAGIC_AT) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(WorkspaceError::Lost);
        }
        Err(error) => return Err(WorkspaceError::io(path)(error)),
    }
    let [magic, state] = [[field[0], field[1]], [field[2], field[3]]].map(u16::from_le_bytes);
    if (magic, state) == (MAGIC, CLEAN) {
        return Ok(());
    }
    repair(path).await
}

async fn repair(path: &Path) -> Result<(), WorkspaceError> {
    // First what is safe, then whatever it takes.
    for how in ["-p", "-y"] {
        let args = [OsStr::new(how), OsStr::new("-f"), path.as_os_str()];
        let ended = program::run("e2fsck", &args, REPAIR_TIMEOUT).await?;
        tracing::info!(path = %path.display(), how, code = ended.code, "workspace checked");
        // Bits: 1 and 2 errors corrected, 4 errors left, from 8 on it could not work at all.
        match ended.code {
            Some(0..4) => {
                // The repair may have made it; without it nothing is worse.
                if let Err(error) = remove_lost_and_found(path).await {
                    tracing::debug!(%error, "lost+found stays");
                }
                return Ok(());
            }
            Some(_) => {}
            // Killed: that says nothing of the workspace.
            None => return Err(WorkspaceError::Busy),
        }
    }
    Err(WorkspaceError::Lost)
}

fn create(path: &Path) -> Result<File, WorkspaceError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(WorkspaceError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("bulkhead-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&path).expect("folder");
        path
    }

    #[tokio::test]
    async fn images_of_every_size_are_made_clean_and_copied_with_their_holes() {
        let folder = folder();
        for bytes in [1 << 20, 64 << 20, 16 << 30] {
            let (first, copy) =
                (folder.join(format!("{bytes}")), folder.join(format!("{bytes}-copy")));
            format(&first, bytes, 10_007).await.expect("formats");
            copy_sparse(&first, &copy).expect("copies");
            check(&copy).await.expect("clean");
            let used = std::os::unix::fs::MetadataExt::blocks(&copy.metadata().expect("exists"));
            assert!(used * 512 < 4 << 20, "{bytes}: {used} blocks");
            let args = [OsStr::new("-n"), OsStr::new("-f"), copy.as_os_str()];
            let checked = program::run("e2fsck", &args, MAKE_TIMEOUT).await.expect("runs");
            // 4: it misses lost+found, and changes nothing.
            assert!(matches!(checked.code, Some(0 | 4)), "{:?}", checked.code);
        }
        std::fs::remove_dir_all(folder).expect("removes");
    }

    #[tokio::test]
    async fn a_missing_or_senseless_image_is_lost_and_a_damaged_one_is_repaired() {
        let folder = folder();
        let path = folder.join("image");
        assert!(matches!(check(&path).await, Err(WorkspaceError::Lost)));
        std::fs::write(&path, b"short").expect("writes");
        assert!(matches!(check(&path).await, Err(WorkspaceError::Lost)));
        std::fs::write(&path, vec![7; 1 << 20]).expect("writes");
        assert!(matches!(check(&path).await, Err(WorkspaceError::Lost)));
        std::fs::remove_file(&path).expect("removes");
        format(&path, 8 << 20, 10_007).await.expect("formats");
        // As the kernel leaves it when the host loses power.
        let args = ["-w", "-R", "set_super_value state 0"].map(OsStr::new);
        let args = [&args[..], &[path.as_os_str()]].concat();
        program::succeed("debugfs", &args, MAKE_TIMEOUT).await.expect("marks it");
        check(&path).await.expect("repairs");
        check(&path).await.expect("is clean now");
        std::fs::remove_dir_all(folder).expect("removes");
    }
}
