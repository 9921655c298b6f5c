//! The window of a stream that PID 1 shares: memory of the sandbox that is read here and never
//! written. Takes nothing that could keep whoever reads it waiting, or change its size meanwhile.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use protocol::init::WIDE_WINDOW_BYTES;
use rustix::fs::{OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat};

/// Only memory has seals: neither a pipe nor a file of any file system can be meant instead.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// See the module.
pub(crate) struct SharedWindow(File);

impl SharedWindow {
    /// Takes what came, if it is such memory.
    pub(crate) fn accept(descriptor: OwnedFd) -> Option<Self> {
        let seals = fcntl_get_seals(&descriptor).ok()?;
        let size = u64::try_from(fstat(&descriptor).ok()?.st_size).ok()?;
        let readable = fcntl_getfl(&descriptor).ok()? & OFlags::ACCMODE != OFlags::WRONLY;
        let fits = readable && seals.contains(SEALS) && size == WIDE_WINDOW_BYTES as u64;
        fits.then(|| Self(File::from(descriptor)))
    }

    /// Reads bytes of the stream, [`WIDE_WINDOW_BYTES`] at most, from an offset of it on.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        let position = offset % WIDE_WINDOW_BYTES as u64;
        let to_end = usize::try_from(WIDE_WINDOW_BYTES as u64 - position).unwrap_or(usize::MAX);
        let (first, second) = bytes.split_at_mut(to_end.min(bytes.len()));
        self.0.read_exact_at(first, position)?;
        self.0.read_exact_at(second, 0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    fn memory(size: usize) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = memfd_create("window", flags).expect("memory");
        ftruncate(&memory, size as u64).expect("its size");
        memory
    }

    /// A window, and its memory for whoever writes it.
    pub(crate) fn window() -> (SharedWindow, File) {
        let memory = memory(WIDE_WINDOW_BYTES);
        fcntl_add_seals(&memory, SEALS).expect("sealed");
        let ours = memory.try_clone().expect("a descriptor");
        (SharedWindow::accept(ours).expect("is one"), File::from(memory))
    }

    #[test]
    fn a_piece_may_go_on_at_the_beginning() {
        let (window, memory) = window();
        let all: Vec<u8> = (0..WIDE_WINDOW_BYTES).map(|n| (n / 7 % 251) as u8).collect();
        memory.write_all_at(&all, 0).expect("writes");
        let mut bytes = vec![0; 3000];
        let offset = 5 * WIDE_WINDOW_BYTES - 1000;
        window.read(offset as u64, &mut bytes).expect("reads");
        let expected = [&all[WIDE_WINDOW_BYTES - 1000..], &all[..2000]].concat();
        assert!(bytes == expected);
    }

    #[test]
    fn only_sealed_memory_of_the_right_size_is_taken() {
        assert!(SharedWindow::accept(memory(WIDE_WINDOW_BYTES)).is_none(), "not sealed");
        let short = memory(WIDE_WINDOW_BYTES - 1);
        fcntl_add_seals(&short, SEALS).expect("sealed");
        assert!(SharedWindow::accept(short).is_none());
        let shrinks = memory(WIDE_WINDOW_BYTES);
        fcntl_add_seals(&shrinks, SealFlags::GROW | SealFlags::SEAL).expect("sealed");
        assert!(SharedWindow::accept(shrinks).is_none());
        let closed = memory(WIDE_WINDOW_BYTES);
        fcntl_add_seals(&closed, SEALS).expect("sealed");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&closed));
        let unread = std::fs::OpenOptions::new().write(true).open(path).expect("opens");
        assert!(SharedWindow::accept(unread.into()).is_none(), "cannot be read");
        let (pipe, _) = std::io::pipe().expect("a pipe");
        assert!(SharedWindow::accept(pipe.into()).is_none());
        let folder = File::open("/").expect("a folder");
        assert!(SharedWindow::accept(folder.into()).is_none());
    }
}
