//! Makes checkpoints of all audit chains: when a minute is over or a thousand events are new, and
//! when somebody asks. Refuses to sign what contradicts what it signed before.

mod continuity;
mod witness;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit::{Checkpoint, GENESIS, KeyRing, Signer, Tree};
use tokio::sync::Mutex;
use witness::{Entry, Witness};

use crate::store::{ChainHead, Scope, Store, StoreError, StoredCheckpoint, StoredProof};

/// How often to look whether one is due.
const LOOK: Duration = Duration::from_secs(5);
/// How old an event gets at most before a checkpoint covers it, in microseconds.
const MAX_AGE_US: i64 = 60_000_000;
/// How many events there are at most that none covers.
const MAX_EVENTS: i64 = 1000;
/// How many checkpoints are written to the file at a time when it lags behind.
const BATCH: i64 = 200;

/// Why there is no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file outside the database cannot be used.
    #[error("the checkpoint file {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database is older than the file: somebody restored a backup, or changed it.
    #[error(
        "the checkpoint file {path} has a checkpoint {number} that the database has not: the \
             database was restored from a backup, or changed; nothing is signed until an operator \
             has looked and moved the file away"
    )]
    RolledBack {
        /// The file.
        path: PathBuf,
        /// The checkpoint's number.
        number: i64,
    },
    /// A chain is not what was signed before.
    #[error("the audit chain {chain} contradicts its last checkpoint; nothing is signed")]
    Contradiction {
        /// The chain.
        chain: String,
    },
    /// What is kept of the chains is not what the last checkpoint was made of.
    #[error(
        "the proofs in the database do not give the root of the last checkpoint: a chain or a proof \
             was removed or changed; nothing is signed"
    )]
    Proofs,
    /// The last checkpoint is not signed by a key of ours.
    #[error("the last checkpoint in the database does not hold: {0}")]
    Last(audit::CheckpointError),
    /// A note cannot be made.
    #[error("cannot sign: {0}")]
    Sign(audit::CheckpointError),
}

/// See the module.
pub struct Checkpointer {
    store: Store,
    signers: Vec<Signer>,
    known: KeyRing,
    /// One at a time in this process; among several, the database decides.
    witness: Mutex<Arc<Witness>>,
}

/// Why a checkpoint is wanted.
enum Wanted<'a> {
    /// It may be time.
    Due,
    /// Somebody wants a proof of this chain.
    By(&'a str),
}

impl Checkpointer {
    /// Signs with `signers`, believes `known`, and appends to `file`.
    pub fn new(store: Store, signers: Vec<Signer>, known: KeyRing, file: PathBuf) -> Self {
        Self { store, signers, known, witness: Mutex::new(Arc::new(Witness::new(file))) }
    }

    /// The public keys, as `audit.pub` has them.
    pub fn public_keys(&self) -> Vec<String> {
        self.signers.iter().map(|signer| signer.public().to_string()).collect()
    }

    /// Makes those that are due, for as long as the process lives.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.make(Wanted::Due).await {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, source, "no audit checkpoint");
            }
        }
    }

    /// Makes one now and gives the proof that `chain` is in it.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub async fn prove(&self, chain: &str) -> Result<StoredProof, CheckpointError> {
        let made = self.make(Wanted::By(chain)).await?;
        made.ok_or(StoreError::Inconsistent("audit head").into())
    }

    async fn make(&self, wanted: Wanted<'_>) -> Result<Option<StoredProof>, CheckpointError> {
        let witness = self.witness.lock().await;
        let mut scope = self.store.platform().await?;
        scope.lock_checkpoints().await?;
        let last = scope.find_last_checkpoint().await?;
        let last = last.map(|last| Checkpoint::open(&last.note, &self.known)).transpose();
        let last = last.map_err(CheckpointError::Last)?;
        self.compare(&witness, &mut scope).await?;
        let (heads, time_us) = scope.list_chain_heads().await?;
        continuity::check(&mut scope, &heads, last.as_ref()).await?;
        if matches!(wanted, Wanted::Due) && !is_due(&heads, last.as_ref(), time_us) {
            return Ok(None);
        }
        let tree = Tree::new(heads.iter().map(|head| head.leaf.clone()).collect());
        let (stored, proven) = self.sign(&tree, last.as_ref(), time_us)?;
        scope.insert_checkpoint(&stored).await?;
        let mut asked_for = None;
        for head in &heads {
            let is_wanted = matches!(wanted, Wanted::By(chain) if chain == head.leaf.chain);
            if !is_wanted && head.proven == Some((head.leaf.size, head.leaf.head)) {
                continue;
            }
            let Some(proof) = tree.prove(&head.leaf.chain, &stored.note) else { continue };
            scope.insert_proof(proven, &proof).await?;
            if is_wanted {
                asked_for = Some(StoredProof { number: proven, time_us, proof });
            }
        }
        scope.commit().await?;
        append(&witness, vec![stored]).await?;
        Ok(asked_for)
    }

    fn sign(
        &self,
        tree: &Tree,
        last: Option<&Checkpoint>,
        time_us: i64,
    ) -> Result<(StoredCheckpoint, i64), CheckpointError> {
        let origin = self.signers.first().map(|signer| signer.public().name().to_owned());
        let checkpoint = Checkpoint {
            origin: origin.unwrap_or_default(),
            chains: tree.size(),
            root: tree.root(),
            number: last.map_or(1, |last| last.number + 1),
            time_us,
            previous: last.map_or(GENESIS, Checkpoint::digest),
        };
        let signers: Vec<&Signer> = self.signers.iter().collect();
        let note = checkpoint.sign(&signers).map_err(CheckpointError::Sign)?;
        let number = checkpoint.number;
        Ok((StoredCheckpoint { number, time_us, note }, number))
    }

    /// Makes sure that the file knows nothing that the database does not, and everything that it
    /// does.
    async fn compare(
        &self,
        witness: &Arc<Witness>,
        scope: &mut Scope,
    ) -> Result<(), CheckpointError> {
        let mut after = 0;
        if let Some(seen) = on_disk(witness, |witness| witness.last()).await? {
            let same = scope.list_checkpoints(seen.number - 1, 1).await?;
            if same.first().is_none_or(|same| same.number != seen.number || same.note != seen.note)
            {
                let path = witness.path().to_owned();
                return Err(CheckpointError::RolledBack { path, number: seen.number });
            }
            after = seen.number;
        }
        loop {
            let missing = scope.list_checkpoints(after, BATCH).await?;
            let Some(newest) = missing.last() else { return Ok(()) };
            after = newest.number;
            append(witness, missing).await?;
        }
    }
}

fn is_due(heads: &[ChainHead], last: Option<&Checkpoint>, now_us: i64) -> bool {
    let unproven = |head: &ChainHead| head.leaf.size - head.proven.map_or(0, |(size, _)| size);
    let events: i64 = heads.iter().map(unproven).sum();
    let age_us = last.map_or(i64::MAX, |last| now_us.saturating_sub(last.time_us));
    events >= MAX_EVENTS || (events > 0 && age_us >= MAX_AGE_US)
}

async fn append(
    witness: &Arc<Witness>,
    checkpoints: Vec<StoredCheckpoint>,
) -> Result<(), CheckpointError> {
    on_disk(witness, move |witness| {
        checkpoints.into_iter().try_for_each(|StoredCheckpoint { number, note, .. }| {
            witness.append(&Entry { number, note })
        })
    })
    .await
}

async fn on_disk<T: Send + 'static>(
    witness: &Arc<Witness>,
    work: impl FnOnce(&Witness) -> io::Result<T> + Send + 'static,
) -> Result<T, CheckpointError> {
    let path = witness.path().to_owned();
    let witness = witness.clone();
    let done = tokio::task::spawn_blocking(move || work(&witness)).await;
    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|source| CheckpointError::File { path, source })
}
