//! Memory that the executor sees too: a window of output in it crosses no socket. PID 1 writes it,
//! the executor reads it; nobody else has it, and nobody can change its size.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc::{c_void, off_t};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

/// See the module.
pub(crate) struct Shared {
    memory: NonNull<c_void>,
    size: NonZeroUsize,
    descriptor: OwnedFd,
    inode: u64,
}

impl Shared {
    /// Memory of zeros.
    ///
    /// # Errors
    /// When the kernel has none, or cannot seal it.
    pub(crate) fn new(size: usize) -> nix::Result<Self> {
        let size = NonZeroUsize::new(size).ok_or(Errno::EINVAL)?;
        let length = off_t::try_from(size.get()).map_err(|_| Errno::EINVAL)?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let descriptor = memfd_create(c"window", flags)?;
        ftruncate(&descriptor, length)?;
        let inode = fstat(&descriptor)?.st_ino;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new memory at a place that the kernel chooses; it is unmapped when this is dropped.
        let memory = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, &descriptor, 0)? };
        let shared = Self { memory, size, descriptor, inode };
        // From now on only this mapping can write, and there is nothing left to change.
        let seals = SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_FUTURE_WRITE
            | SealFlag::F_SEAL_SEAL;
        fcntl(&shared.descriptor, FcntlArg::F_ADD_SEALS(seals))?;
        // Not for shepherds, who may outlive it.
        // SAFETY: changes what a fork does with our own mapping, which is there.
        unsafe { madvise(memory, size.get(), MmapAdvise::MADV_DONTFORK)? };
        Ok(shared)
    }

    /// What to send to the executor, and the number by which it knows it.
    pub(crate) fn descriptor(&self) -> (BorrowedFd<'_>, u64) {
        (self.descriptor.as_fd(), self.inode)
    }

    /// All of it.
    pub(crate) fn all(&self) -> &[u8] {
        // SAFETY: the mapping has this size as long as `self` lives, and by the seals nobody else
        // writes to it.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.size.get()) }
    }

    /// All of it.
    pub(crate) fn all_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().cast(), self.size.get()) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: ours alone, and never used again.
        let _ = unsafe { munmap(self.memory, self.size.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn the_other_side_sees_what_is_written_and_can_change_nothing() {
        let mut shared = Shared::new(8192).expect("memory");
        shared.all_mut()[5000..5005].copy_from_slice(b"bytes");
        let (descriptor, inode) = shared.descriptor();
        let other = File::from(descriptor.try_clone_to_owned().expect("a descriptor"));
        let mut seen = [0; 5];
        other.read_exact_at(&mut seen, 5000).expect("reads");
        assert_eq!(&seen, b"bytes");
        other.write_at(b"x", 0).expect_err("sealed");
        other.set_len(1).expect_err("sealed");
        other.set_len(10_000).expect_err("sealed");
        let metadata = std::os::unix::fs::MetadataExt::ino(&other.metadata().expect("metadata"));
        assert_eq!(metadata, inode);
        drop(shared);
        other.read_exact_at(&mut seen, 5000).expect("outlives the mapping");
    }

    #[test]
    fn there_is_no_memory_of_no_bytes() {
        assert!(Shared::new(0).is_err());
    }
}
