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
    /// Where they are read to.
    chunk: Vec<u8>,
}

impl Drawing {
    /// Goes on behind what a spool file has, `length` bytes.
    pub(crate) fn begin(mut spool: SpoolFile, length: u64) -> Result<Self, SpoolError> {
        let (file, hash) = spool.lend().ok_or(SpoolError::Broken)?;
        let digest = Digest::At(Progress { hash, bytes: length, chunk: vec![0; DIGEST_BYTES] });
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

    /// A part of what the file has.
    pub(crate) fn read(&self, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
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
    loop {
        let left = length.load(Ordering::Acquire) - progress.bytes;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(DIGEST_BYTES);
        if count == 0 {
            return Ok(progress);
        }
        let bytes = &mut progress.chunk[..count];
        file.read_exact_at(bytes, progress.bytes)?;
        progress.hash.update(bytes);
        progress.bytes += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::fd::OwnedFd;
    use std::path::PathBuf;

    use domain::limits::OUTPUT_HEAD_BYTES;

    use crate::spool::OutputSink;

    const CAP: usize = 3_000_000;

    fn path() -> PathBuf {
        std::env::temp_dir().join(format!("bulkhead-drawing-{}", uuid::Uuid::now_v7()))
    }

    fn bytes(range: std::ops::Range<usize>) -> Vec<u8> {
        range.map(|n| (n / 7 % 251) as u8).collect()
    }

    async fn keep(sink: &mut OutputSink, offset: usize, bytes: &[u8]) {
        sink.take(offset as u64, bytes.to_vec()).expect("takes");
        sink.keep().await.expect("keeps");
    }

    /// A sink that has so much already, and a pipe that brings the rest, up to its end.
    async fn begun(all: &[u8], have: usize) -> (OutputSink, Arc<Receiver>) {
        let mut sink = OutputSink::open_capped(path(), CAP as u64).await.expect("opens");
        keep(&mut sink, 0, &all[..have]).await;
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let rest = all[have..].to_vec();
        // Ends early where nobody reads on.
        std::thread::spawn(move || drop(writer.write_all(&rest)));
        let reader = Receiver::from_owned_fd(OwnedFd::from(reader)).expect("a pipe");
        (sink, Arc::new(reader))
    }

    /// Draws until there is no more.
    async fn draw(sink: &mut OutputSink, pipe: &Arc<Receiver>) {
        loop {
            pipe.readable().await.expect("watched");
            if sink.draw(pipe).await.expect("draws") == Pause::Over {
                return sink.stop_drawing().expect("stops");
            }
        }
    }

    #[tokio::test]
    async fn what_is_drawn_is_the_same_as_what_is_taken() {
        for (have, total) in [(OUTPUT_HEAD_BYTES + 1, 20_000), (100_000, 2_500_000)] {
            let all = bytes(0..total);
            let (mut drawn, pipe) = begun(&all, have).await;
            assert!(drawn.can_draw(have as u64));
            draw(&mut drawn, &pipe).await;
            assert_eq!(drawn.bytes_received(), total as u64);
            // More may come in frames after that.
            keep(&mut drawn, total, b"and the end").await;
            drawn.settle().await.expect("settles");
            let mut taken = OutputSink::open_capped(path(), CAP as u64).await.expect("opens");
            keep(&mut taken, 0, &all).await;
            keep(&mut taken, total, b"and the end").await;
            assert_eq!(drawn.summarize(None), taken.summarize(None));
            let (drawn, taken) = (drawn.view(), taken.view());
            let read = drawn.read(0, total + 11).await.expect("reads");
            assert!(read == taken.read(0, total + 11).await.expect("reads"));
            drawn.remove().await;
            taken.remove().await;
        }
    }

    #[tokio::test]
    async fn beyond_the_cap_bytes_stay_in_the_pipe() {
        let all = bytes(0..CAP + 50_000);
        let (mut drawn, pipe) = begun(&all, 20_000).await;
        draw(&mut drawn, &pipe).await;
        assert!(drawn.is_full() && !drawn.can_draw(CAP as u64));
        assert_eq!(drawn.bytes_received(), CAP as u64);
        let mut left = vec![0; 50_000];
        let mut count = 0;
        while count < left.len() {
            pipe.readable().await.expect("watched");
            count += pipe.try_read(&mut left[count..]).unwrap_or_default();
        }
        assert!(left == all[CAP..]);
        // Of the rest, only the end comes.
        keep(&mut drawn, all.len() - 20_000, &all[all.len() - 20_000..]).await;
        drawn.stop_drawing().expect("has stopped already");
        drawn.settle().await.expect("settles");
        let mut taken = OutputSink::open_capped(path(), CAP as u64).await.expect("opens");
        keep(&mut taken, 0, &all).await;
        assert_eq!(drawn.summarize(None), taken.summarize(None));
        drawn.view().remove().await;
        taken.view().remove().await;
    }

    #[tokio::test]
    async fn what_was_drawn_by_an_earlier_life_counts() {
        let all = bytes(0..1_000_000);
        let path = path();
        let mut sink = OutputSink::open_capped(path.clone(), CAP as u64).await.expect("opens");
        keep(&mut sink, 0, &all[..50_000]).await;
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(&all[50_000..100_000]).expect("writes");
        let reader = Receiver::from_owned_fd(OwnedFd::from(reader)).expect("a pipe");
        let pause = sink.draw(&Arc::new(reader)).await.expect("draws");
        assert_eq!((pause, sink.view().bytes_stored()), (Pause::Empty, 100_000));
        drop(sink);
        let mut sink = OutputSink::open_capped(path, CAP as u64).await.expect("opens again");
        assert_eq!((sink.bytes_owned(), sink.can_draw(100_000)), (100_000, true));
        keep(&mut sink, 100_000, &all[100_000..]).await;
        let mut taken = OutputSink::open_capped(self::path(), CAP as u64).await.expect("opens");
        keep(&mut taken, 0, &all).await;
        assert_eq!(sink.summarize(None), taken.summarize(None));
        sink.view().remove().await;
        taken.view().remove().await;
    }

    #[tokio::test]
    async fn only_what_continues_a_file_is_drawn() {
        let mut sink = OutputSink::open_capped(path(), CAP as u64).await.expect("opens");
        assert!(!sink.can_draw(0), "there is no file yet");
        keep(&mut sink, 0, &bytes(0..OUTPUT_HEAD_BYTES)).await;
        assert!(!sink.can_draw(OUTPUT_HEAD_BYTES as u64));
        keep(&mut sink, OUTPUT_HEAD_BYTES, b"xy").await;
        let end = OUTPUT_HEAD_BYTES as u64 + 2;
        assert!(sink.can_draw(end) && !sink.can_draw(end + 1) && !sink.can_draw(end - 1));
        sink.view().remove().await;
    }
}
