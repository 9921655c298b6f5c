//! The journal: which execs were accepted, where, how they ended and whether that was reported; which
//! must never start; which sandbox each session has. Every change is on disk before the call returns,
//! but for one that the next life makes again without harm. Refuses to forget what is unfinished.

mod entry;
mod shelf;

use std::path::Path;
use std::sync::Arc;

use domain::ids::{ExecId, SandboxId, SessionId};
use protocol::checks::Unfit;
use protocol::exec::{ExecResult, NotStarted};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    TableDefinition,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use entry::{Entry, Past, SessionRow, Stage};
use shelf::Shelf;

const EXECS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("execs");
const RESULTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("results");
/// Execs that ended before they started: none of them may ever start.
const TOMBSTONES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tombstones");
/// Execs that were not started because of a repository, under a grant that wants git disarmed.
const UNFIT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("unfit");
const SESSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");
const TABLES: [Table; 5] = [EXECS, RESULTS, TOMBSTONES, UNFIT, SESSIONS];

/// The journal failed. Whether it has what was asked for is known when it is asked next.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened.
    #[error("the journal cannot be opened")]
    Open(#[source] redb::DatabaseError),
    /// Reading or writing failed.
    #[error("the journal cannot be read or written")]
    Database(#[source] Box<redb::Error>),
    /// An entry does not parse.
    #[error("a journal entry is malformed")]
    Malformed(#[from] serde_json::Error),
    /// The task that worked on it was ended.
    #[error("the journal's task was ended")]
    Interrupted,
}

impl JournalError {
    /// Whether the disk failed, which a database does not get over by itself.
    fn is_of_the_disk(&self) -> bool {
        let Self::Database(error) = self else { return false };
        matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo)
    }
}

/// Why an exec may never start.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Tombstone {
    why: NotStarted,
    buried_at_ms: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Journal {
    shelf: Arc<Shelf>,
}

impl Journal {
    /// Opens the journal and makes it if needed.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self { shelf: Arc::new(Shelf::open(path)?) })
    }

    /// The entry of an exec.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn find(&self, exec_id: ExecId) -> Result<Option<Entry>, JournalError> {
        self.get(EXECS, exec_id.to_string()).await
    }

    /// The result of a finished exec.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn find_result(&self, exec_id: ExecId) -> Result<Option<ExecResult>, JournalError> {
        self.get(RESULTS, exec_id.to_string()).await
    }

    /// Writes that an exec is accepted: it is about to be started.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn record_start(&self, exec_id: ExecId, entry: &Entry) -> Result<(), JournalError> {
        let puts = vec![put(EXECS, &exec_id, entry)?];
        self.write(puts).await
    }

    /// Writes the result of an exec, with its entry.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn record_result(
        &self,
        exec_id: ExecId,
        entry: &Entry,
        result: &ExecResult,
    ) -> Result<(), JournalError> {
        let puts = vec![put(EXECS, &exec_id, entry)?, put(RESULTS, &exec_id, result)?];
        self.write(puts).await
    }

    /// Takes back a start that certainly never happened.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn withdraw(&self, exec_id: ExecId) -> Result<(), JournalError> {
        self.write(vec![(EXECS, exec_id.to_string(), None)]).await
    }

    /// Writes that an exec was certainly never started and never may be. Takes its start back.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn bury(
        &self,
        exec_id: ExecId,
        why: NotStarted,
        buried_at_ms: u64,
    ) -> Result<(), JournalError> {
        let tombstone = put(TOMBSTONES, &exec_id, &Tombstone { why, buried_at_ms })?;
        self.write(vec![tombstone, (EXECS, exec_id.to_string(), None)]).await
    }

    /// The same of an exec that is called off, unless the journal knows it: then nothing happens.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn bury_unknown(
        &self,
        exec_id: ExecId,
        buried_at_ms: u64,
    ) -> Result<(), JournalError> {
        let tombstone = Tombstone { why: NotStarted::Cancelled, buried_at_ms };
        let (table, key, value) = put(TOMBSTONES, &exec_id, &tombstone)?;
        self.blocking(move |database| {
            let write = database.begin_write().map_err(database_error)?;
            let execs = write.open_table(EXECS).map_err(database_error)?;
            let known = execs.get(key.as_str()).map_err(database_error)?.is_some();
            drop(execs);
            let mut tombstones = write.open_table(table).map_err(database_error)?;
            let buried = tombstones.get(key.as_str()).map_err(database_error)?.is_some();
            if let Some(value) = value.filter(|_| !known && !buried) {
                tombstones.insert(key.as_str(), value.as_slice()).map_err(database_error)?;
            }
            drop(tombstones);
            write.commit().map_err(database_error)
        })
        .await
    }

    /// What is known of an exec that somebody wants to run.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn recall(&self, exec_id: ExecId) -> Result<Past, JournalError> {
        let key = exec_id.to_string();
        self.blocking(move |database| {
            let read = database.begin_read().map_err(database_error)?;
            let tombstone = find::<Tombstone>(&read, TOMBSTONES, &key)?;
            let burial = tombstone.map(|tombstone| tombstone.why);
            Ok(Past { entry: find(&read, EXECS, &key)?, burial })
        })
        .await
    }

    /// Writes that an exec was certainly not started because of a repository. Takes its start back.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn record_unfit(
        &self,
        exec_id: ExecId,
        unfit: Unfit,
        now_ms: u64,
    ) -> Result<(), JournalError> {
        let refusal = put(UNFIT, &exec_id, &(unfit, now_ms))?;
        self.write(vec![refusal, (EXECS, exec_id.to_string(), None)]).await
    }

    /// Why an exec was not started under a grant that wants git disarmed, if it was not.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn find_unfit(&self, exec_id: ExecId) -> Result<Option<Unfit>, JournalError> {
        let refusal = self.get::<(Unfit, u64)>(UNFIT, exec_id.to_string()).await?;
        Ok(refusal.map(|(unfit, _)| unfit))
    }

    /// Notes that an exec's output needs no more shipping.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn mark_shipped(&self, exec_id: ExecId) -> Result<(), JournalError> {
        self.amend(exec_id, Durability::Immediate, |stage| match stage {
            Stage::Finished { shipped, .. } => *shipped = true,
            Stage::Accepted => {}
        })
        .await
    }

    /// Notes that an exec's result needs no more reporting. This may be forgotten in a crash: the
    /// control plane takes a result a second time as if it were the first.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn mark_reported(&self, exec_id: ExecId) -> Result<(), JournalError> {
        self.amend(exec_id, Durability::None, |stage| match stage {
            Stage::Finished { reported, .. } => *reported = true,
            Stage::Accepted => {}
        })
        .await
    }

    /// The sandbox of a session.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn find_session(
        &self,
        session_id: SessionId,
    ) -> Result<Option<SessionRow>, JournalError> {
        self.get(SESSIONS, session_id.to_string()).await
    }

    /// Every session that has ever been heard of here and is not forgotten.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn sessions(&self) -> Result<Vec<(SessionId, SessionRow)>, JournalError> {
        let rows = self.rows::<SessionRow>(SESSIONS, |_| true).await?;
        Ok(rows.into_iter().filter_map(|(id, row)| Some((id.parse().ok()?, row))).collect())
    }

    /// Writes the sandbox of a session.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn record_session(
        &self,
        session_id: SessionId,
        row: &SessionRow,
    ) -> Result<(), JournalError> {
        let puts = vec![put(SESSIONS, &session_id, row)?];
        self.write(puts).await
    }

    /// Execs that may have been started and have no result yet.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn unfinished(&self) -> Result<Vec<(ExecId, Entry)>, JournalError> {
        self.scan(|entry| entry.stage == Stage::Accepted).await
    }

    /// Execs whose output the control plane does not have yet.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn unshipped(&self) -> Result<Vec<(ExecId, Entry)>, JournalError> {
        self.scan(|entry| matches!(entry.stage, Stage::Finished { shipped: false, .. })).await
    }

    /// Execs whose result the control plane is not known to have.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn unreported(&self) -> Result<Vec<(ExecId, Entry)>, JournalError> {
        self.scan(|entry| matches!(entry.stage, Stage::Finished { reported: false, .. })).await
    }

    /// Execs that ended in this sandbox.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn finished_in(&self, sandbox: SandboxId) -> Result<Vec<ExecId>, JournalError> {
        let ended =
            move |e: &Entry| e.sandbox.id == sandbox && matches!(e.stage, Stage::Finished { .. });
        Ok(self.scan(ended).await?.into_iter().map(|(exec_id, _)| exec_id).collect())
    }

    /// Forgets what ended, was shipped and was reported, tombstones, and sessions that were closed,
    /// before `before_ms`, when grants are over long since; what nobody has heard of only where it
    /// ended before `unheard_before_ms`.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn prune(
        &self,
        before_ms: u64,
        unheard_before_ms: u64,
    ) -> Result<usize, JournalError> {
        let old = self.scan(move |entry| match entry.stage {
            Stage::Finished { finished_at_ms, shipped: true, reported } => {
                finished_at_ms < if reported { before_ms } else { unheard_before_ms }
            }
            Stage::Finished { .. } | Stage::Accepted => false,
        });
        let old = old.await?;
        let sessions = self
            .rows::<SessionRow>(SESSIONS, move |row| {
                row.closed_at_ms.is_some_and(|closed| closed < before_ms)
            })
            .await?;
        let unfit = self.rows::<(Unfit, u64)>(UNFIT, move |(_, at)| *at < before_ms).await?;
        let tombstones = self
            .rows::<Tombstone>(TOMBSTONES, move |buried| buried.buried_at_ms < before_ms)
            .await?;
        let count = old.len();
        let mut deletions = Vec::with_capacity(2 * count + tombstones.len() + sessions.len());
        for (exec_id, _) in old {
            deletions.push((EXECS, exec_id.to_string(), None));
            deletions.push((RESULTS, exec_id.to_string(), None));
        }
        deletions.extend(tombstones.into_iter().map(|(id, _)| (TOMBSTONES, id, None)));
        deletions.extend(unfit.into_iter().map(|(id, _)| (UNFIT, id, None)));
        deletions.extend(sessions.into_iter().map(|(id, _)| (SESSIONS, id, None)));
        self.write(deletions).await?;
        Ok(count)
    }

    async fn scan(
        &self,
        wanted: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> Result<Vec<(ExecId, Entry)>, JournalError> {
        let rows = self.rows(EXECS, wanted).await?;
        Ok(rows.into_iter().filter_map(|(id, entry)| Some((id.parse().ok()?, entry))).collect())
    }

    async fn rows<T: DeserializeOwned + Send + 'static>(
        &self,
        table: Table,
        wanted: impl Fn(&T) -> bool + Send + 'static,
    ) -> Result<Vec<(String, T)>, JournalError> {
        self.blocking(move |database| {
            let read = database.begin_read().map_err(database_error)?;
            let table = read.open_table(table).map_err(database_error)?;
            let mut found = Vec::new();
            for row in table.iter().map_err(database_error)? {
                let (key, value) = row.map_err(database_error)?;
                let value: T = serde_json::from_slice(value.value())?;
                if wanted(&value) {
                    found.push((key.value().to_owned(), value));
                }
            }
            Ok(found)
        })
        .await
    }

    async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        table: Table,
        key: String,
    ) -> Result<Option<T>, JournalError> {
        self.blocking(move |database| {
            let read = database.begin_read().map_err(database_error)?;
            find(&read, table, &key)
        })
        .await
    }

    /// Changes how far a known exec is.
    async fn amend(
        &self,
        exec_id: ExecId,
        durability: Durability,
        change: impl FnOnce(&mut Stage) + Send + 'static,
    ) -> Result<(), JournalError> {
        let key = exec_id.to_string();
        self.blocking(move |database| {
            let mut write = database.begin_write().map_err(database_error)?;
            write.set_durability(durability).map_err(database_error)?;
            let mut execs = write.open_table(EXECS).map_err(database_error)?;
            let found = execs.get(key.as_str()).map_err(database_error)?;
            let entry = found.map(|value| serde_json::from_slice::<Entry>(value.value()));
            if let Some(mut entry) = entry.transpose()? {
                change(&mut entry.stage);
                let value = serde_json::to_vec(&entry)?;
                execs.insert(key.as_str(), value.as_slice()).map_err(database_error)?;
            }
            drop(execs);
            write.commit().map_err(database_error)
        })
        .await
    }

    /// One transaction, durable when this returns.
    async fn write(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        self.blocking(move |database| {
            let write = database.begin_write().map_err(database_error)?;
            for (table, key, value) in changes {
                let mut table = write.open_table(table).map_err(database_error)?;
                match value {
                    Some(value) => table.insert(key.as_str(), value.as_slice()),
                    None => table.remove(key.as_str()),
                }
                .map_err(database_error)?;
            }
            write.commit().map_err(database_error)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let shelf = Arc::clone(&self.shelf);
        tokio::task::spawn_blocking(move || shelf.work(work))
            .await
            .map_err(|_| JournalError::Interrupted)?
    }
}

type Table = TableDefinition<'static, &'static str, &'static [u8]>;
/// A row to write, or to delete when there is no value.
type Change = (Table, String, Option<Vec<u8>>);

fn find<T: DeserializeOwned>(
    read: &ReadTransaction,
    table: Table,
    key: &str,
) -> Result<Option<T>, JournalError> {
    let table = read.open_table(table).map_err(database_error)?;
    let value = table.get(key).map_err(database_error)?;
    value.map(|value| Ok(serde_json::from_slice(value.value())?)).transpose()
}

fn put(table: Table, key: &impl ToString, value: &impl Serialize) -> Result<Change, JournalError> {
    Ok((table, key.to_string(), Some(serde_json::to_vec(value)?)))
}

fn database_error(error: impl Into<redb::Error>) -> JournalError {
    JournalError::Database(Box::new(error.into()))
}
