//! Writes what is kept of one stream into its file and digests it, on a thread that may wait for the
//! disk: the file is told of before the digest, which the next pieces wait for.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::grant::hex;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::spool::SpoolError;
use crate::spool_file::{Kept, SpoolFile};

/// Pieces that are kept in one go.
pub(crate) type Batch = Vec<Kept>;

/// Pieces whose memory is used again, at most.
const MAX_SPARE: usize = 12;

/// See the module. Whatever is on its way when it is dropped is written all the same.
pub(crate) struct Keeper {
    stock: Stock,
    /// Something was given to be written.
    begun: bool,
    desk: Arc<Desk>,
}

/// Who has the stream.
enum Stock {
    Here(Box<Stream>),
    /// A thread, which gives it back.
    Away(oneshot::Receiver<Box<Stream>>),
    /// Nobody: the thread failed, and nothing true is left to say of the stream.
    Gone,
}

/// A stream as it stands.
struct Stream {
    file: SpoolFile,
    hash: Sha256,
}

/// What a thread does with a stream.
struct Job {
    head: Vec<u8>,
    batch: Batch,
    /// Told when it is written.
    tell: oneshot::Sender<io::Result<()>>,
}

/// Between whoever has pieces and the thread: as long as they come fast enough, it is one thread.
#[derive(Default)]
struct Desk(Mutex<Papers>);

#[derive(Default)]
struct Papers {
    /// A thread will look for what waits.
    attended: bool,
    waiting: Option<Job>,
    /// Memory for pieces.
    spare: Vec<Vec<u8>>,
}

impl Keeper {
    /// Of a stream of which there is nothing.
    pub(crate) fn new(path: PathBuf) -> Self {
        let stream = Stream { file: SpoolFile::new(path), hash: Sha256::new() };
        Self { stock: Stock::Here(Box::new(stream)), begun: false, desk: Arc::default() }
    }

    /// Goes on behind what the file has, which was digested.
    ///
    /// # Errors
    /// When it cannot be opened, or something is on its way into it.
    pub(crate) fn reopen(&mut self) -> Result<(), SpoolError> {
        self.here()?.file.reopen()?;
        self.begun = true;
        Ok(())
    }

    /// Whether there is a file, or soon will be.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Digests bytes that are not to be written, or were.
    ///
    /// # Errors
    /// When something is on its way.
    pub(crate) fn digest(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.here()?.hash.update(bytes);
        Ok(())
    }

    /// Begins to write pieces, behind `head` if there is no file yet, and to digest them. Tells when
    /// they are written; before, no more are to be given: what waits is limited so.
    pub(crate) fn keep(
        &mut self,
        head: Vec<u8>,
        batch: Batch,
    ) -> oneshot::Receiver<io::Result<()>> {
        self.begun = true;
        let (tell, written) = oneshot::channel();
        let job = Job { head, batch, tell };
        let mut papers = self.desk.lock();
        if papers.attended {
            papers.waiting = Some(job);
            return written;
        }
        papers.attended = true;
        drop(papers);
        let (give_back, away) = oneshot::channel();
        let stock = std::mem::replace(&mut self.stock, Stock::Away(away));
        let desk = Arc::clone(&self.desk);
        spawn_blocking(move || {
            if let Some(stream) = desk.attend(stock, job) {
                let _ = give_back.send(stream);
            }
        });
        written
    }

    /// Waits until everything is digested. Whoever gives up waiting can come back.
    ///
    /// # Errors
    /// When it broke off.
    pub(crate) async fn settle(&mut self) -> Result<(), SpoolError> {
        if let Stock::Away(away) = &mut self.stock {
            self.stock = away.await.map_or(Stock::Gone, Stock::Here);
        }
        self.desk.lock().spare = Vec::new();
        self.here().map(drop)
    }

    /// Of everything, once it is settled.
    pub(crate) fn sha256(&self) -> Option<String> {
        match &self.stock {
            Stock::Here(stream) => Some(hex(&stream.hash.clone().finalize())),
            Stock::Away(_) | Stock::Gone => None,
        }
    }

    /// Memory for a piece; it may hold what nobody needs any more.
    pub(crate) fn take_spare(&self) -> Vec<u8> {
        self.desk.lock().spare.pop().unwrap_or_default()
    }

    fn here(&mut self) -> Result<&mut Stream, SpoolError> {
        match &mut self.stock {
            Stock::Here(stream) => Ok(stream),
            Stock::Away(_) | Stock::Gone => Err(SpoolError::Broken),
        }
    }
}

impl Stock {
    /// The stream, when whoever has it is done. Blocks.
    fn wait(self) -> Option<Box<Stream>> {
        match self {
            Self::Here(stream) => Some(stream),
            Self::Away(away) => away.blocking_recv().ok(),
            Self::Gone => None,
        }
    }
}

impl Stream {
    /// Writes pieces, tells of it, and digests them.
    fn keep(&mut self, job: Job) -> Option<Batch> {
        let Job { head, batch, tell } = job;
        let result = self.file.append(&head, &batch);
        let written = result.is_ok();
        // Nobody may be interested any more.
        let _ = tell.send(result);
        if !written {
            return None;
        }
        batch.iter().for_each(|piece| self.hash.update(piece.as_slice()));
        Some(batch)
    }
}

impl Desk {
    /// Does what there is to do until nothing waits, and gives the stream back. Not after a failure:
    /// nothing may follow what was not written.
    fn attend(&self, stock: Stock, first: Job) -> Option<Box<Stream>> {
        let mut stream = stock.wait();
        let mut job = first;
        loop {
            let done = stream.as_mut().and_then(|stream| stream.keep(job));
            let mut papers = self.lock();
            match done {
                Some(batch) => papers.recycle(batch),
                None => stream = None,
            }
            match papers.waiting.take() {
                Some(next) if stream.is_some() => job = next,
                // Whoever waits for it hears that nobody does it.
                _ => {
                    papers.attended = false;
                    return stream;
                }
            }
        }
    }

    /// A panic elsewhere leaves the papers whole: every change is a single one.
    fn lock(&self) -> MutexGuard<'_, Papers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Papers {
    /// Takes the memory of pieces that are kept.
    fn recycle(&mut self, batch: Batch) {
        let free = MAX_SPARE.saturating_sub(self.spare.len());
        self.spare.extend(batch.into_iter().take(free).map(|piece| piece.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> PathBuf {
        std::env::temp_dir().join(format!("bulkhead-keeper-{}", uuid::Uuid::now_v7()))
    }

    fn batch(bytes: &[u8]) -> Batch {
        vec![Kept { bytes: bytes.to_vec(), range: 0..bytes.len() }]
    }

    async fn keep(keeper: &mut Keeper, head: &[u8], bytes: &[u8]) {
        let written = keeper.keep(head.to_vec(), batch(bytes));
        written.await.expect("told").expect("written");
    }

    #[tokio::test]
    async fn file_and_digest_are_of_everything_in_order() {
        let path = path();
        let all: Vec<u8> = (0..10_000_000_u32).map(|n| (n / 7 % 251) as u8).collect();
        let mut keeper = Keeper::new(path.clone());
        keeper.digest(&all[..1000]).expect("still");
        let mut head = &all[..1000];
        for piece in all[1000..].chunks(300_000) {
            keep(&mut keeper, head, piece).await;
            head = &[];
        }
        keeper.settle().await.expect("settles");
        assert_eq!(keeper.sha256(), Some(hex(&Sha256::digest(&all))));
        assert!(std::fs::read(&path).expect("its file") == all);
        let mut keeper = Keeper::new(path.clone());
        keeper.digest(&all).expect("still");
        keeper.reopen().expect("opens");
        keep(&mut keeper, b"", b"more").await;
        keeper.settle().await.expect("settles");
        assert_eq!(keeper.sha256(), Some(hex(&Sha256::digest([&all[..], b"more"].concat()))));
        assert_eq!(std::fs::read(&path).expect("its file").len(), all.len() + 4);
        std::fs::remove_file(path).expect("removed");
    }

    #[tokio::test]
    async fn what_is_not_settled_has_no_digest() {
        let path = path();
        let mut keeper = Keeper::new(path.clone());
        let written = keeper.keep(Vec::new(), batch(&vec![7; 5_000_000]));
        assert_eq!(keeper.sha256(), None);
        assert!(matches!(keeper.digest(b"x"), Err(SpoolError::Broken)));
        written.await.expect("told").expect("written");
        keeper.settle().await.expect("settles");
        assert_eq!(keeper.sha256(), Some(hex(&Sha256::digest(vec![7; 5_000_000]))));
        std::fs::remove_file(path).expect("removed");
    }

    #[tokio::test]
    async fn what_cannot_be_written_has_no_digest_ever() {
        let mut keeper = Keeper::new(path().join("of-no-folder"));
        let written = keeper.keep(Vec::new(), batch(b"x"));
        assert!(written.await.expect("told").is_err());
        assert!(matches!(keeper.settle().await, Err(SpoolError::Broken)));
        assert_eq!(keeper.sha256(), None);
        let written = keeper.keep(Vec::new(), batch(b"y"));
        assert!(written.await.is_err(), "nothing follows what was not written");
    }

    #[tokio::test]
    async fn memory_is_used_again() {
        let path = path();
        let mut keeper = Keeper::new(path.clone());
        assert_eq!(keeper.take_spare().capacity(), 0);
        let written = keeper.keep(Vec::new(), batch(&[1; 1000]));
        written.await.expect("told").expect("written");
        // Its thread gives the stream back behind the memory.
        let Stock::Away(away) = &mut keeper.stock else { panic!("is still") };
        let _stream = away.await.expect("comes back");
        assert_eq!(keeper.take_spare(), [1; 1000]);
        std::fs::remove_file(path).expect("removed");
    }
}
