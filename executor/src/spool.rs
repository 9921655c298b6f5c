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
use protocol::init::WIDE_WINDOW_BYTES;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::oneshot;

use crate::keeper::{Batch, Keeper};
use crate::spool_file::Kept;
use crate::window::SharedWindow;

/// Bytes that a spool file is read in.
const READ_BYTES: usize = 256 * 1024;
/// Where a window's bytes are put in their memory: see [`protocol::frame`] for why not at its beginning.
const LEAD_BYTES: usize = 2032;
/// Output that is kept and acknowledged in one go, in bytes: a part of PID 1's window, so that more
/// comes meanwhile.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;

/// A stream could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// The file cannot be read or written.
    #[error("the spool file cannot be used; is the disk of BULKHEAD_DATA_DIR full?")]
    Io(#[from] std::io::Error),
    /// An earlier write broke off, and nothing is known of what it wrote.
    #[error("the spool file was left half written")]
    Broken,
    /// PID 1 tells of more bytes than its window has.
    #[error("a piece of {0} bytes in a window of {WIDE_WINDOW_BYTES}")]
    TooLong(usize),
    /// The memory that PID 1 shares cannot be read.
    #[error("the window that the sandbox shares cannot be read")]
    Window(#[source] std::io::Error),
    /// PID 1 tells of bytes in a window that it did not share.
    #[error("a piece in a window that nobody has seen")]
    NoWindow,
    /// Bytes are missing that PID 1 still has to have.
    #[error("output jumps from {have} to {offset}")]
    Gap {
        /// Bytes that we have.
        have: u64,
        /// Where the next ones begin.
        offset: u64,
    },
}

impl SpoolError {
    /// Whether PID 1 is to blame, or has no more what is missing here: trying again would not help.
    pub(crate) fn is_of_pid_1(&self) -> bool {
        match self {
            Self::TooLong(_) | Self::Window(_) | Self::NoWindow | Self::Gap { .. } => true,
            Self::Io(_) | Self::Broken => false,
        }
    }
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
    keeper: Keeper,
    writing: Option<Writing>,
    /// Taken, and not written yet.
    taken: Vec<Kept>,
    taken_bytes: usize,
    /// What was taken is to be acknowledged.
    owes: bool,
    tail: VecDeque<u8>,
    bytes_received: u64,
    bytes_stored: u64,
    /// Bytes that are in the file or counted, so that this process may die.
    bytes_kept: u64,
    cap: u64,
}

/// Pieces on their way into the file.
struct Writing {
    written: oneshot::Receiver<std::io::Result<()>>,
    /// Those bytes of them that belong to the head.
    head: Vec<u8>,
    /// What there is of the stream when they are there.
    bytes_received: u64,
    bytes_stored: u64,
}

impl OutputSink {
    /// Of a stream of which nothing was ever kept.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self::new_capped(path, MAX_OUTPUT_BYTES)
    }

    /// Goes on where the spool file ends, if there is one.
    pub(crate) async fn open(path: PathBuf) -> Result<Self, SpoolError> {
        Self::open_capped(path, MAX_OUTPUT_BYTES).await
    }

    fn new_capped(path: PathBuf, cap: u64) -> Self {
        Self {
            view: Arc::new(SpoolView { path: path.clone(), shown: Mutex::default() }),
            keeper: Keeper::new(path),
            writing: None,
            taken: Vec::new(),
            taken_bytes: 0,
            owes: false,
            tail: VecDeque::new(),
            bytes_received: 0,
            bytes_stored: 0,
            bytes_kept: 0,
            cap,
        }
    }

    async fn open_capped(path: PathBuf, cap: u64) -> Result<Self, SpoolError> {
        let mut sink = Self::new_capped(path.clone(), cap);
        match File::open(&path).await {
            Ok(found) => {
                sink.reload(found).await?;
                sink.bytes_kept = sink.bytes_received;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(sink)
    }

    async fn reload(&mut self, mut found: File) -> Result<(), SpoolError> {
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let count = found.read(&mut chunk).await?;
            if count == 0 {
                break;
            }
            let bytes = &chunk[..count];
            self.keeper.digest(bytes)?;
            self.count(bytes, &[]);
            self.view.show(&self.view.head_of([bytes]), self.bytes_stored);
        }
        self.keeper.reopen()
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
        self.bytes_kept
    }

    fn is_long(&self) -> bool {
        self.bytes_received > OUTPUT_HEAD_BYTES as u64
    }

    /// Takes the bytes from `offset` on. They are not kept before
    /// [`OutputSink::keep`].
    pub(crate) fn take(&mut self, offset: u64, bytes: Vec<u8>) -> Result<(), SpoolError> {
        self.skip_to(offset)?;
        let repeated = usize::try_from(self.bytes_received - offset).unwrap_or(usize::MAX);
        let Some(fresh) = bytes.get(repeated..).filter(|fresh| !fresh.is_empty()) else {
            return Ok(());
        };
        self.owes = true;
        let (kept, dropped) = fresh.split_at(self.room().min(fresh.len()));
        let range = repeated..repeated + kept.len();
        self.count(kept, dropped);
        if !range.is_empty() {
            self.taken_bytes += range.len();
            self.taken.push(Kept { bytes, range });
        }
        Ok(())
    }

    /// The same of bytes that lie in a window, of which only those are read that are kept or shown.
    pub(crate) fn take_shared(
        &mut self,
        window: &SharedWindow,
        offset: u64,
        length: usize,
    ) -> Result<(), SpoolError> {
        if length > WIDE_WINDOW_BYTES {
            return Err(SpoolError::TooLong(length));
        }
        self.skip_to(offset)?;
        let begin = self.bytes_received;
        let fresh = offset.saturating_add(length as u64).saturating_sub(begin);
        let fresh = usize::try_from(fresh).unwrap_or(usize::MAX);
        if fresh == 0 {
            return Ok(());
        }
        self.owes = true;
        let kept = fresh.min(self.room());
        if kept > 0 {
            let mut bytes = self.keeper.take_spare();
            let range = LEAD_BYTES..LEAD_BYTES + kept;
            bytes.resize(bytes.len().max(range.end), 0);
            let read = window.read(begin, &mut bytes[range.clone()]);
            read.map_err(SpoolError::Window)?;
            self.count(&bytes[range.clone()], &[]);
            self.taken_bytes += range.len();
            self.taken.push(Kept { bytes, range });
        }
        let dropped = fresh - kept;
        let mut end = vec![0; dropped.min(OUTPUT_HEAD_BYTES)];
        let read = window.read(begin + (fresh - end.len()) as u64, &mut end);
        read.map_err(SpoolError::Window)?;
        self.count(&[], &end);
        let unseen = (dropped - end.len()) as u64;
        self.bytes_received = self.bytes_received.saturating_add(unseen);
        Ok(())
    }

    /// Bytes may follow from here on.
    fn skip_to(&mut self, offset: u64) -> Result<(), SpoolError> {
        if offset > self.bytes_received {
            // What lay beyond the cap was counted and dropped; a restart forgets how much.
            if self.bytes_stored < self.cap {
                return Err(SpoolError::Gap { have: self.bytes_received, offset });
            }
            self.tail.clear();
            self.bytes_received = offset;
        }
        Ok(())
    }

    /// Bytes that may still be kept.
    fn room(&self) -> usize {
        usize::try_from(self.cap.saturating_sub(self.bytes_stored)).unwrap_or(usize::MAX)
    }

    fn count(&mut self, kept: &[u8], dropped: &[u8]) {
        let begun = usize::try_from(self.bytes_stored).unwrap_or(OUTPUT_HEAD_BYTES);
        let head = OUTPUT_HEAD_BYTES.saturating_sub(begun).min(kept.len());
        push_tail(&mut self.tail, &kept[head..]);
        push_tail(&mut self.tail, dropped);
        self.bytes_stored += kept.len() as u64;
        let count = (kept.len() + dropped.len()) as u64;
        self.bytes_received = self.bytes_received.saturating_add(count);
    }

    /// Begins to keep what was taken, unless something is still on its way into the file. Gives an
    /// offset to acknowledge, if that is all: short output is acknowledged never, so that PID 1 still
    /// has it should this process die.
    pub(crate) fn keep(&mut self) -> Result<Option<u64>, SpoolError> {
        if self.is_writing() {
            return Ok(None);
        }
        let pieces = std::mem::take(&mut self.taken);
        self.taken_bytes = 0;
        let owes = std::mem::take(&mut self.owes);
        if !self.is_long() {
            for piece in &pieces {
                self.keeper.digest(piece.as_slice())?;
            }
            self.view
                .show(&self.view.head_of(pieces.iter().map(Kept::as_slice)), self.bytes_stored);
            return Ok(None);
        }
        if pieces.is_empty() {
            // Beyond the cap there is nothing to write.
            self.bytes_kept = self.bytes_received;
            return Ok(owes.then_some(self.bytes_kept));
        }
        self.write(pieces);
        Ok(None)
    }

    /// Whether more can be taken now: while something is on its way into the file, a batch.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_writing() || self.taken_bytes < BATCH_BYTES
    }

    /// Whether something is on its way into the file.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Waits until nothing is on its way into the file. Gives the offset to acknowledge, if something
    /// was. Whoever gives up waiting can come back.
    pub(crate) async fn written(&mut self) -> Result<Option<u64>, SpoolError> {
        let Some(writing) = &mut self.writing else { return Ok(None) };
        let written = (&mut writing.written).await;
        let Some(done) = self.writing.take() else { return Ok(None) };
        written.map_err(|_| SpoolError::Broken)??;
        self.bytes_kept = done.bytes_received;
        self.view.show(&done.head, done.bytes_stored);
        Ok(Some(self.bytes_kept))
    }

    fn write(&mut self, pieces: Batch) {
        // Without a file, all that there was is the head.
        let before = if self.keeper.has_begun() { Vec::new() } else { self.view.head() };
        let head = self.view.head_of(pieces.iter().map(Kept::as_slice));
        let written = self.keeper.keep(before, pieces);
        let (bytes_received, bytes_stored) = (self.bytes_received, self.bytes_stored);
        self.writing = Some(Writing { written, head, bytes_received, bytes_stored });
    }

    /// Keeps everything that was taken, and waits until [`OutputSink::summarize`] can tell the digest.
    pub(crate) async fn settle(&mut self) -> Result<(), SpoolError> {
        self.written().await?;
        while self.owes || !self.taken.is_empty() {
            self.keep()?;
            self.written().await?;
        }
        self.keeper.settle().await
    }

    /// The stream as it stands and was settled, given the size that PID 1 told, if it could.
    pub(crate) fn summarize(&self, bytes_total: Option<u64>) -> StreamSummary {
        StreamSummary {
            bytes_total: bytes_total.unwrap_or(0).max(self.bytes_received),
            bytes_stored: self.bytes_stored,
            head: Binary(self.view.head()),
            tail: Binary(self.tail.iter().copied().collect()),
            sha256: self.keeper.sha256().unwrap_or_default(),
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

    /// What of these pieces belongs to the head, behind what is shown of it.
    fn head_of<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let missing = OUTPUT_HEAD_BYTES.saturating_sub(self.lock().head.len());
        pieces.into_iter().flatten().take(missing).copied().collect()
    }

    /// More bytes are kept, up to this many in all; `head` is what the head gets of them.
    fn show(&self, head: &[u8], bytes_stored: u64) {
        let mut shown = self.lock();
        shown.head.extend_from_slice(head);
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
mod tests;
