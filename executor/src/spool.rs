//! The output of one stream of one exec on this host: its beginning in memory, all of it in a file
//! once it is longer, up to a cap. Counts what it does not keep; never reorders, repeats or skips.
//! Takes pieces as they come and keeps several at a time.

use std::collections::VecDeque;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use domain::limits::{MAX_OUTPUT_BYTES, OUTPUT_HEAD_BYTES};
use protocol::binary::Binary;
use protocol::exec::StreamSummary;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::task::spawn_blocking;

use crate::spool_file::{Kept, SpoolFile};

/// Bytes that a spool file is read in.
const READ_BYTES: usize = 256 * 1024;

/// A stream could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// The file cannot be read or written.
    #[error("the spool file cannot be used; is the disk of BULKHEAD_DATA_DIR full?")]
    Io(#[from] std::io::Error),
    /// An earlier write broke off, and nothing is known of what it wrote.
    #[error("the spool file was left half written")]
    Broken,
    /// Bytes are missing that PID 1 still has to have.
    #[error("output jumps from {have} to {offset}")]
    Gap {
        /// Bytes that we have.
        have: u64,
        /// Where the next ones begin.
        offset: u64,
    },
}

/// The part of a stream that can be read while it grows.
pub(crate) struct SpoolView {
    path: PathBuf,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    head: Vec<u8>,
    bytes_stored: u64,
}

/// See the module.
pub(crate) struct OutputSink {
    view: Arc<SpoolView>,
    /// Absent while it is being written, and for ever when that broke off.
    file: Option<SpoolFile>,
    /// Taken, and not written yet.
    taken: Vec<Kept>,
    /// What was taken is to be acknowledged.
    owes: bool,
    tail: VecDeque<u8>,
    bytes_received: u64,
    bytes_stored: u64,
    cap: u64,
}

impl OutputSink {
    /// Goes on where the spool file ends, if there is one.
    pub(crate) async fn open(path: PathBuf) -> Result<Self, SpoolError> {
        Self::open_capped(path, MAX_OUTPUT_BYTES).await
    }

    async fn open_capped(path: PathBuf, cap: u64) -> Result<Self, SpoolError> {
        let mut file = SpoolFile::new(path.clone());
        let mut sink = Self {
            view: Arc::new(SpoolView { path: path.clone(), shown: Mutex::default() }),
            file: None,
            taken: Vec::new(),
            owes: false,
            tail: VecDeque::new(),
            bytes_received: 0,
            bytes_stored: 0,
            cap,
        };
        match File::open(&path).await {
            Ok(found) => sink.reload(found, &mut file).await?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        sink.file = Some(file);
        Ok(sink)
    }

    async fn reload(&mut self, mut found: File, file: &mut SpoolFile) -> Result<(), SpoolError> {
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let count = found.read(&mut chunk).await?;
            if count == 0 {
                break;
            }
            let bytes = &chunk[..count];
            file.digest_more(bytes);
            self.count(bytes, &[]);
            self.view.show([bytes], self.bytes_stored);
        }
        Ok(file.reopen()?)
    }

    /// What others may read of it.
    pub(crate) fn view(&self) -> Arc<SpoolView> {
        Arc::clone(&self.view)
    }

    /// Bytes that we have, kept or counted.
    pub(crate) fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Bytes that PID 1 may give up: of short output none, which is in memory only.
    pub(crate) fn bytes_owned(&self) -> u64 {
        if self.is_long() { self.bytes_received } else { 0 }
    }

    fn is_long(&self) -> bool {
        self.bytes_received > OUTPUT_HEAD_BYTES as u64
    }

    /// Takes the bytes from `offset` on. They are not kept before [`OutputSink::keep`].
    pub(crate) fn take(&mut self, offset: u64, bytes: Vec<u8>) -> Result<(), SpoolError> {
        if offset > self.bytes_received {
            // What lay beyond the cap was counted and dropped; a restart forgets how much.
            if self.bytes_stored < self.cap {
                return Err(SpoolError::Gap { have: self.bytes_received, offset });
            }
            self.tail.clear();
            self.bytes_received = offset;
        }
        let repeated = usize::try_from(self.bytes_received - offset).unwrap_or(usize::MAX);
        let Some(fresh) = bytes.get(repeated..).filter(|fresh| !fresh.is_empty()) else {
            return Ok(());
        };
        self.owes = true;
        let room = usize::try_from(self.cap - self.bytes_stored).unwrap_or(usize::MAX);
        let (kept, dropped) = fresh.split_at(room.min(fresh.len()));
        let range = repeated..repeated + kept.len();
        self.count(kept, dropped);
        if !range.is_empty() {
            self.taken.push(Kept { bytes, range });
        }
        Ok(())
    }

    fn count(&mut self, kept: &[u8], dropped: &[u8]) {
        let begun = usize::try_from(self.bytes_stored).unwrap_or(OUTPUT_HEAD_BYTES);
        let head = OUTPUT_HEAD_BYTES.saturating_sub(begun).min(kept.len());
        push_tail(&mut self.tail, &kept[head..]);
        push_tail(&mut self.tail, dropped);
        self.bytes_stored += kept.len() as u64;
        self.bytes_received += (kept.len() + dropped.len()) as u64;
    }

    /// Keeps what was taken. Gives the offset to acknowledge, if any: short output is acknowledged
    /// never, so that PID 1 still has it should this process die.
    pub(crate) async fn keep(&mut self) -> Result<Option<u64>, SpoolError> {
        let pieces = std::mem::take(&mut self.taken);
        if !pieces.is_empty() {
            let pieces = self.write(pieces).await?;
            self.view.show(pieces.iter().map(Kept::as_slice), self.bytes_stored);
        }
        let owes = std::mem::take(&mut self.owes);
        Ok((owes && self.is_long()).then_some(self.bytes_received))
    }

    async fn write(&mut self, pieces: Vec<Kept>) -> Result<Vec<Kept>, SpoolError> {
        let mut file = self.file.take().ok_or(SpoolError::Broken)?;
        if self.bytes_stored <= OUTPUT_HEAD_BYTES as u64 {
            pieces.iter().for_each(|piece| file.digest_more(piece.as_slice()));
            self.file = Some(file);
            return Ok(pieces);
        }
        // Without a file, all that there was is the head.
        let head = if file.exists() { Vec::new() } else { self.view.head() };
        let writing = spawn_blocking(move || {
            let written = file.append(&head, &pieces);
            written.map(|()| (file, pieces))
        });
        let (file, pieces) = writing.await.map_err(|_| SpoolError::Broken)??;
        self.file = Some(file);
        Ok(pieces)
    }

    /// The stream as it stands, given the size that PID 1 told, if it could.
    pub(crate) fn summarize(&self, bytes_total: Option<u64>) -> StreamSummary {
        StreamSummary {
            bytes_total: bytes_total.unwrap_or(0).max(self.bytes_received),
            bytes_stored: self.bytes_stored,
            head: Binary(self.view.head()),
            tail: Binary(self.tail.iter().copied().collect()),
            sha256: self.file.as_ref().map(SpoolFile::sha256).unwrap_or_default(),
        }
    }
}

fn push_tail(tail: &mut VecDeque<u8>, bytes: &[u8]) {
    let bytes = &bytes[bytes.len().saturating_sub(OUTPUT_HEAD_BYTES)..];
    let excess = (tail.len() + bytes.len()).saturating_sub(OUTPUT_HEAD_BYTES);
    tail.drain(..excess);
    tail.extend(bytes);
}

impl SpoolView {
    /// A finished stream, from its summary and what is left of its file.
    pub(crate) fn of_finished(path: PathBuf, summary: &StreamSummary) -> Self {
        let shown = Shown { head: summary.head.0.clone(), bytes_stored: summary.bytes_stored };
        Self { path, shown: Mutex::new(shown) }
    }

    /// More bytes are kept, up to this many in all.
    fn show<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, bytes_stored: u64) {
        let mut shown = self.lock();
        for bytes in pieces {
            let missing = OUTPUT_HEAD_BYTES.saturating_sub(shown.head.len()).min(bytes.len());
            shown.head.extend_from_slice(&bytes[..missing]);
        }
        shown.bytes_stored = bytes_stored;
    }

    /// Bytes that can be read now.
    pub(crate) fn bytes_stored(&self) -> u64 {
        self.lock().bytes_stored
    }

    /// At most `limit` bytes from `offset` on; none at the end.
    pub(crate) async fn read(&self, offset: u64, limit: usize) -> std::io::Result<Vec<u8>> {
        let stored = self.bytes_stored();
        let length = usize::try_from(stored.saturating_sub(offset)).unwrap_or(limit).min(limit);
        if let Some(bytes) = self.read_head(offset, length) {
            return Ok(bytes);
        }
        let mut file = File::open(&self.path).await?;
        file.seek(SeekFrom::Start(offset)).await?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    fn read_head(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        self.lock().head.get(start..start + length).map(<[u8]>::to_vec)
    }

    /// Removes the file, if there ever was one.
    pub(crate) async fn remove(&self) {
        match tokio::fs::remove_file(&self.path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "a spool file stays behind");
            }
            _ => {}
        }
    }

    fn head(&self) -> Vec<u8> {
        self.lock().head.clone()
    }

    /// A panic elsewhere leaves the value usable: at worst its count lags behind its bytes.
    fn lock(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::grant::hex;
    use sha2::{Digest as _, Sha256};

    fn path() -> PathBuf {
        std::env::temp_dir().join(format!("bulkhead-spool-{}", uuid::Uuid::now_v7()))
    }

    async fn accept(sink: &mut OutputSink, offset: u64, bytes: &[u8]) -> Option<u64> {
        sink.take(offset, bytes.to_vec()).expect("takes");
        sink.keep().await.expect("keeps")
    }

    fn bytes(range: std::ops::Range<usize>) -> Vec<u8> {
        range.map(|n| (n % 251) as u8).collect()
    }

    #[tokio::test]
    async fn short_output_touches_no_disk_and_is_not_acknowledged() {
        let path = path();
        let mut sink = OutputSink::open(path.clone()).await.expect("opens");
        assert_eq!(accept(&mut sink, 0, b"hello").await, None);
        assert!(!path.exists());
        // PID 1 keeps it over an attach, and says it again.
        assert_eq!((sink.bytes_received(), sink.bytes_owned()), (5, 0));
        assert_eq!(accept(&mut sink, 0, b"hello").await, None);
        let summary = sink.summarize(Some(5));
        assert_eq!(summary.whole(), Some(b"hello".to_vec()));
        assert_eq!(summary.sha256, hex(&Sha256::digest(b"hello")));
    }

    #[tokio::test]
    async fn long_output_survives_a_restart_without_gap_or_repeat() {
        let path = path();
        let all = bytes(0..100_000);
        let mut sink = OutputSink::open(path.clone()).await.expect("opens");
        assert_eq!(accept(&mut sink, 0, &all[..40_000]).await, Some(40_000));
        drop(sink);
        let mut sink = OutputSink::open(path).await.expect("opens again");
        assert_eq!((sink.bytes_received(), sink.bytes_owned()), (40_000, 40_000));
        assert_eq!(accept(&mut sink, 30_000, &all[30_000..]).await, Some(100_000));
        let summary = sink.summarize(Some(100_000));
        assert_eq!((summary.bytes_total, summary.bytes_stored), (100_000, 100_000));
        assert_eq!(summary.head.0, all[..OUTPUT_HEAD_BYTES]);
        assert_eq!(summary.tail.0, all[100_000 - OUTPUT_HEAD_BYTES..]);
        assert_eq!(summary.sha256, hex(&Sha256::digest(&all)));
        let view = sink.view();
        assert_eq!(view.read(10_000, 50_000).await.expect("reads"), all[10_000..60_000]);
        assert_eq!(view.read(100_000, 10).await.expect("reads"), b"");
        view.remove().await;
    }

    #[tokio::test]
    async fn beyond_the_cap_bytes_are_counted_and_not_kept() {
        let path = path();
        let all = bytes(0..60_000);
        let mut sink = OutputSink::open_capped(path.clone(), 50_000).await.expect("opens");
        assert_eq!(accept(&mut sink, 0, &all).await, Some(60_000));
        let summary = sink.summarize(Some(60_000));
        assert_eq!((summary.bytes_total, summary.bytes_stored), (60_000, 50_000));
        assert_eq!(summary.tail.0, all[60_000 - OUTPUT_HEAD_BYTES..]);
        assert_eq!(std::fs::metadata(&path).expect("file").len(), 50_000);
        drop(sink);
        let mut sink = OutputSink::open_capped(path, 50_000).await.expect("opens again");
        assert_eq!(accept(&mut sink, 60_000, b"end").await, Some(60_003));
        assert_eq!(sink.summarize(None).bytes_total, 60_003);
        sink.view().remove().await;
    }

    #[tokio::test]
    async fn pieces_that_wait_are_kept_in_one_go_and_what_is_repeated_once() {
        let path = path();
        let all = bytes(0..60_000);
        let mut sink = OutputSink::open_capped(path.clone(), 50_000).await.expect("opens");
        for range in [0..10, 0..12_000, 5..9, 11_000..30_000, 30_000..60_000] {
            sink.take(range.start as u64, all[range].to_vec()).expect("takes");
        }
        assert_eq!(sink.view().bytes_stored(), 0, "nothing is shown before it is kept");
        assert_eq!(sink.keep().await.expect("keeps"), Some(60_000));
        assert_eq!(sink.keep().await.expect("nothing to keep"), None);
        assert!(std::fs::read(&path).expect("file") == all[..50_000]);
        let summary = sink.summarize(Some(60_000));
        assert_eq!((summary.bytes_total, summary.bytes_stored), (60_000, 50_000));
        assert_eq!(summary.sha256, hex(&Sha256::digest(&all[..50_000])));
        assert_eq!(summary.head.0, all[..OUTPUT_HEAD_BYTES]);
        assert_eq!(summary.tail.0, all[60_000 - OUTPUT_HEAD_BYTES..]);
        sink.view().remove().await;
    }

    #[tokio::test]
    async fn a_gap_below_the_cap_is_an_error() {
        let mut sink = OutputSink::open(path()).await.expect("opens");
        let gap = sink.take(1, b"x".to_vec());
        assert!(matches!(gap, Err(SpoolError::Gap { have: 0, offset: 1 })));
    }
}
