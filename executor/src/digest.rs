//! The digest of one stream. It follows what is kept on a thread of its own, so that neither waits
//! for the other; how far behind it may be is limited.

use std::sync::Arc;

use protocol::grant::hex;
use sha2::{Digest as _, Sha256};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::spool::SpoolError;
use crate::spool_file::Kept;

/// Pieces that are kept in one go.
pub(crate) type Batch = Arc<Vec<Kept>>;

/// Most that may wait while other pieces are digested, in bytes.
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// See the module.
pub(crate) struct Digest {
    state: State,
    waiting: Vec<Batch>,
    waiting_bytes: usize,
    /// Digested, and of use to whoever needs memory.
    done: Vec<Batch>,
}

enum State {
    /// Of everything but what waits.
    Still(Sha256),
    Running(JoinHandle<(Sha256, Vec<Batch>)>),
    /// It broke off.
    Broken,
}

impl Digest {
    /// Of nothing.
    pub(crate) fn new() -> Self {
        let state = State::Still(Sha256::new());
        Self { state, waiting: Vec::new(), waiting_bytes: 0, done: Vec::new() }
    }

    /// Digests a few bytes at once.
    ///
    /// # Errors
    /// When something else is being digested.
    pub(crate) fn update(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let State::Still(hash) = &mut self.state else { return Err(SpoolError::Broken) };
        hash.update(bytes);
        Ok(())
    }

    /// Digests pieces some time. Waits while too much does.
    ///
    /// # Errors
    /// When it broke off.
    pub(crate) async fn push(&mut self, batch: Batch) -> Result<(), SpoolError> {
        let bytes: usize = batch.iter().map(|piece| piece.as_slice().len()).sum();
        let finished = matches!(&self.state, State::Running(running) if running.is_finished());
        if finished || self.waiting_bytes + bytes > MAX_WAITING_BYTES {
            self.join().await?;
        }
        self.waiting.push(batch);
        self.waiting_bytes += bytes;
        self.start();
        Ok(())
    }

    /// Waits until everything is digested.
    ///
    /// # Errors
    /// When it broke off.
    pub(crate) async fn settle(&mut self) -> Result<(), SpoolError> {
        self.join().await?;
        self.start();
        self.join().await
    }

    /// Of everything, once it is settled.
    pub(crate) fn sha256(&self) -> Option<String> {
        match &self.state {
            State::Still(hash) if self.waiting.is_empty() => Some(hex(&hash.clone().finalize())),
            _ => None,
        }
    }

    /// Pieces that nobody else needs any more.
    pub(crate) fn take_done(&mut self) -> impl Iterator<Item = Kept> {
        self.done.drain(..).filter_map(Arc::into_inner).flatten()
    }

    /// Begins with what waits, if nothing is being digested.
    fn start(&mut self) {
        if self.waiting.is_empty() || !matches!(self.state, State::Still(_)) {
            return;
        }
        let batches = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.state = match std::mem::replace(&mut self.state, State::Broken) {
            State::Still(mut hash) => State::Running(spawn_blocking(move || {
                for piece in batches.iter().flat_map(|batch| batch.iter()) {
                    hash.update(piece.as_slice());
                }
                (hash, batches)
            })),
            other => other,
        };
    }

    /// Waits for what is being digested. Whoever gives up waiting can come back.
    async fn join(&mut self) -> Result<(), SpoolError> {
        if let State::Running(running) = &mut self.state {
            let ended = running.await;
            self.state = State::Broken;
            let (hash, batches) = ended.map_err(|_| SpoolError::Broken)?;
            self.state = State::Still(hash);
            self.done = batches;
        }
        match self.state {
            State::Broken => Err(SpoolError::Broken),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: Vec<u8>) -> Batch {
        let range = 0..bytes.len();
        Arc::new(vec![Kept { bytes, range }])
    }

    #[tokio::test]
    async fn it_is_of_everything_in_order() {
        let all: Vec<u8> = (0..10_000_000_u32).map(|n| (n / 7 % 251) as u8).collect();
        let mut digest = Digest::new();
        digest.update(&all[..1000]).expect("still");
        for piece in all[1000..].chunks(300_000) {
            digest.push(batch(piece.to_vec())).await.expect("goes on");
            assert!(digest.waiting_bytes <= MAX_WAITING_BYTES);
        }
        digest.settle().await.expect("settles");
        assert_eq!(digest.sha256(), Some(hex(&Sha256::digest(&all))));
        digest.update(b"more").expect("still");
        assert_eq!(digest.sha256(), Some(hex(&Sha256::digest([&all[..], b"more"].concat()))));
    }

    #[tokio::test]
    async fn what_is_not_settled_has_no_digest() {
        let mut digest = Digest::new();
        digest.push(batch(vec![7; 5_000_000])).await.expect("goes on");
        assert_eq!(digest.sha256(), None);
        assert!(matches!(digest.update(b"x"), Err(SpoolError::Broken)));
        digest.settle().await.expect("settles");
        assert_eq!(digest.sha256(), Some(hex(&Sha256::digest(vec![7; 5_000_000]))));
        assert_eq!(digest.take_done().map(|piece| piece.bytes.len()).sum::<usize>(), 5_000_000);
    }
}
