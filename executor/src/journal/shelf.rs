//! The journal's file, open. A database that has met a failure of its disk takes nothing any more,
//! however much room there is later: it is closed then, and opened again by whoever comes next.
//! What had not returned may be there or not, as after a crash.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Database, Durability, ReadableDatabase as _};

use super::{JournalError, TABLES, database_error};

/// What the database may keep in memory; its own default is a gibibyte.
const CACHE_BYTES: usize = 4 << 20;

/// See the module.
pub(super) struct Shelf {
    path: PathBuf,
    open: RwLock<Option<Database>>,
}

impl Shelf {
    /// Opens the file and makes it if needed.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let open = RwLock::new(Some(open(path)?));
        Ok(Self { path: path.to_owned(), open })
    }

    /// Works on the database. Blocks.
    pub(super) fn work<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        loop {
            let open_now = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(database) = &*open_now {
                let done = work(database);
                drop(open_now);
                if let Err(error) = &done
                    && error.is_of_the_disk()
                {
                    tracing::error!(error = error as &dyn std::error::Error, "closing the journal");
                    // Somebody may have opened it again meanwhile, which harms nobody.
                    self.open.write().unwrap_or_else(PoisonError::into_inner).take();
                }
                return done;
            }
            drop(open_now);
            let mut closed = self.open.write().unwrap_or_else(PoisonError::into_inner);
            if closed.is_none() {
                *closed = Some(open(&self.path)?);
                tracing::warn!("the journal is open again");
            }
        }
    }
}

fn open(path: &Path) -> Result<Database, JournalError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let database = builder.create(path).map_err(JournalError::Open)?;
    let known = {
        let read = database.begin_read().map_err(database_error)?;
        TABLES.iter().all(|table| read.open_table(*table).is_ok())
    };
    if !known {
        let mut write = database.begin_write().map_err(database_error)?;
        write.set_durability(Durability::Immediate).map_err(database_error)?;
        for table in TABLES {
            write.open_table(table).map_err(database_error)?;
        }
        write.commit().map_err(database_error)?;
    }
    Ok(database)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    use redb::TableDefinition;

    const TABLE: TableDefinition<'static, &str, &[u8]> = TABLES[0];

    /// A disk of four MiB, for as long as it lives.
    struct SmallDisk(PathBuf);

    impl SmallDisk {
        fn mount() -> Self {
            let name = format!("bulkhead-journal-{}", uuid::Uuid::now_v7());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "disk"]).arg(&folder);
            assert!(mount.status().expect("mount").success(), "this test runs as root");
            Self(folder)
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    fn put(shelf: &Shelf, key: &str, bytes: usize) -> Result<(), JournalError> {
        shelf.work(|database| {
            let write = database.begin_write().map_err(database_error)?;
            let mut table = write.open_table(TABLE).map_err(database_error)?;
            table.insert(key, vec![7; bytes].as_slice()).map_err(database_error)?;
            drop(table);
            write.commit().map_err(database_error)
        })
    }

    fn keys(shelf: &Shelf) -> Result<Vec<String>, JournalError> {
        use redb::ReadableTable as _;
        shelf.work(|database| {
            let read = database.begin_read().map_err(database_error)?;
            let table = read.open_table(TABLE).map_err(database_error)?;
            let rows = table.iter().map_err(database_error)?;
            rows.map(|row| Ok(row.map_err(database_error)?.0.value().to_owned())).collect()
        })
    }

    #[test]
    fn it_works_again_when_a_full_disk_has_room_again_and_has_lost_nothing() {
        let disk = SmallDisk::mount();
        let shelf = Shelf::open(&disk.0.join("journal")).expect("opens");
        let mut written = Vec::new();
        for round in 0..3 {
            let filler = disk.0.join("filler");
            let rest = Command::new("sh")
                .args(["-c", "head -c 8m /dev/zero > \"$0\" 2>/dev/null; true"])
                .arg(&filler)
                .status();
            assert!(rest.expect("sh").success());
            // What the file has may take a few more.
            let refused = (0..200).find_map(|n| {
                let key = format!("{round}-{n:03}");
                match put(&shelf, &key, 20_000) {
                    Ok(()) => {
                        written.push(key);
                        None
                    }
                    Err(error) => Some(error),
                }
            });
            let refused = refused.expect("a full disk");
            assert!(refused.is_of_the_disk(), "{refused:?}");
            std::fs::remove_file(&filler).expect("removed");
            let key = format!("{round}-end");
            put(&shelf, &key, 10).expect("there is room");
            written.push(key);
            let kept = keys(&shelf).expect("reads");
            let lost: Vec<_> = written.iter().filter(|key| !kept.contains(key)).collect();
            assert!(lost.is_empty(), "{lost:?}");
        }
    }
}
