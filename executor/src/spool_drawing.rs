//! A spool file that is filled straight from a pipe. The kernel moves the bytes, so that each of them
//! is in the pipe or in the file whenever this process may die. The digest follows meanwhile, from
//! the file.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use sha2::{Digest as _, Sha256};
use tokio::net::unix::pipe::Receiver;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::spool::SpoolError;
use crate::spool_file::SpoolFile;

/// Bytes that are moved before others are told of them.
const DRAW_BYTES: u64 = 512 * 1024;
/// Bytes that are digested at once: they should fit the processor's cache.
const DIGEST_BYTES: usize = 128 * 1024;

/// Why no more was taken from a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It was enough for one go.
    Enough,
    /// The pipe is empty.
    Empty,
    /// Nobody writes to it any more, or it cannot be read so, or nothing more is to be kept.
    Over,
}

/// See the module.
pub(crate) struct Drawing {
    spool: SpoolFile,
    file: Arc<File>,
    /// Bytes that the file has, for who digests them.
    length: Arc<AtomicU64>,
    digest: Digest,
}

enum Digest {
    /// Nobody works on it.
    At(Progress),
    /// Somebody does, until it has found the file's end.
    Busy(JoinHandle<std::io::Result<Progress>>),
    /// It failed.
    Broken,
}

struct Progress {
    hash: Sha256,
    /// Bytes that it is of.
    bytes: u64,
}

impl Drawing {
    /// Goes on behind what a spool file has, `length` bytes.
    pub(crate) fn begin(mut spool: SpoolFile, length: u64) -> Result<Self, SpoolError> {
        let (file, hash) = spool.lend().ok_or(SpoolError::Broken)?;
        let digest = Digest::At(Progress { hash, bytes: length });
        Ok(Self { spool, file, length: Arc::new(length.into()), digest })
    }

    /// Moves what `pipe` has, at most `limit` bytes. Gives how many it were. What cannot be moved
    /// stays in the pipe, for who reads it in another way.
    pub(crate) async fn draw(
        &mut self,
        pipe: &Arc<Receiver>,
        limit: u64,
    ) -> Result<(u64, Pause), SpoolError> {
        let (file, pipe) = (Arc::clone(&self.file), Arc::clone(pipe));
        let moving = spawn_blocking(move || move_bytes(&pipe, &file, limit.min(DRAW_BYTES)));
        let (moved, pause) = moving.await.map_err(|_| SpoolError::Broken)?;
        self.length.fetch_add(moved, Ordering::AcqRel);
        self.digest_more().await?;
        Ok((moved, pause))
    }

    /// Sees to it that somebody digests what is new.
    async fn digest_more(&mut self) -> Result<(), SpoolError> {
        if matches!(&self.digest, Digest::Busy(job) if !job.is_finished()) {
            return Ok(());
        }
        let progress = self.progress().await?;
        self.digest = if progress.bytes == self.length.load(Ordering::Acquire) {
            Digest::At(progress)
        } else {
            let (file, length) = (Arc::clone(&self.file), Arc::clone(&self.length));
            Digest::Busy(spawn_blocking(move || catch_up(progress, &file, &length)))
        };
        Ok(())
    }

    /// How far the digest has come, when nobody works on it any more.
    async fn progress(&mut self) -> Result<Progress, SpoolError> {
        match std::mem::replace(&mut self.digest, Digest::Broken) {
            Digest::At(progress) => Ok(progress),
            Digest::Busy(job) => Ok(job.await.map_err(|_| SpoolError::Broken)??),
            Digest::Broken => Err(SpoolError::Broken),
        }
    }

    /// The spool file, with the digest of all that it has.
    pub(crate) async fn settle(mut self) -> Result<SpoolFile, SpoolError> {
        loop {
            let progress = self.progress().await?;
            if progress.bytes == self.length.load(Ordering::Acquire) {
                self.spool.take_back(self.file, progress.hash);
                return Ok(self.spool);
            }
            self.digest = Digest::At(progress);
            self.digest_more().await?;
        }
    }
}

/// Gives how many bytes were moved, and why not more.
fn move_bytes(pipe: &Receiver, file: &File, limit: u64) -> (u64, Pause) {
    let mut moved = 0;
    let moving = pipe.try_io(|| {
        while moved < limit {
            let wanted = usize::try_from(limit - moved).unwrap_or(usize::MAX);
            // Waits for the disk, if need be; for the pipe never.
            match splice(pipe, None, file, None, wanted, SpliceFlags::NONBLOCK) {
                Ok(0) => return Ok(Pause::Over),
                Ok(count) => moved += count as u64,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Pause::Enough)
    });
    let pause = match moving {
        Ok(pause) => pause,
        Err(error) if error.kind() == ErrorKind::WouldBlock => Pause::Empty,
        // A full disk, or a pipe that cannot be read like that: whoever reads it in the other way
        // finds out, and says so.
        Err(_) => Pause::Over,
    };
    (moved, pause)
}

/// Digests the file up to its end, also as that moves.
fn catch_up(mut progress: Progress, file: &File, length: &AtomicU64) -> std::io::Result<Progress> {
    let mut chunk = vec![0; DIGEST_BYTES];
    loop {
        let left = length.load(Ordering::Acquire) - progress.bytes;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(DIGEST_BYTES);
        if count == 0 {
            return Ok(progress);
        }
        let bytes = &mut chunk[..count];
        file.read_exact_at(bytes, progress.bytes)?;
        progress.hash.update(bytes);
        progress.bytes += count as u64;
    }
}
