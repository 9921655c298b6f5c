//! Whether the database has the schema that this program was built for: every migration that it
//! knows, each whole and with the text that it knows. Later ones may be there: while instances are
//! replaced, old and new ones work on one database.

use std::collections::BTreeMap;

use super::{MIGRATIONS, Store, StoreError};

/// What is wrong with a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFault {
    /// It was never migrated, or the service role may not read how far.
    #[error("schema: nothing is applied; run `bulkhead-control-plane migrate`")]
    Nothing,
    /// A migration is missing.
    #[error("schema: migration {0} is missing; run `bulkhead-control-plane migrate`")]
    Missing(i64),
    /// A migration broke off.
    #[error("schema: migration {0} failed half-way; mend it by hand, then migrate again")]
    Failed(i64),
    /// A migration was applied with another text.
    #[error("schema: migration {0} is another one than this program knows; use the right release")]
    Changed(i64),
}

/// A migration that was applied.
struct Applied {
    checksum: Vec<u8>,
    success: bool,
}

impl Store {
    /// What is wrong with the database's schema; nothing if all is well.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find_schema_fault(&self) -> Result<Option<SchemaFault>, StoreError> {
        let sql = "SELECT version, checksum, success FROM _sqlx_migrations";
        let rows: Vec<(i64, Vec<u8>, bool)> = match sqlx::query_as(sql).fetch_all(&self.pool).await
        {
            Ok(rows) => rows,
            Err(error) => match error.into() {
                // No table, or none that we may read: it was never migrated this far.
                StoreError::Driver(_) => return Ok(Some(SchemaFault::Nothing)),
                error => return Err(error),
            },
        };
        let applied = rows
            .into_iter()
            .map(|(version, checksum, success)| (version, Applied { checksum, success }))
            .collect();
        let known = MIGRATIONS.iter().map(|known| (known.version, known.checksum.as_ref()));
        Ok(fault(known, &applied))
    }
}

fn fault<'a>(
    known: impl Iterator<Item = (i64, &'a [u8])>,
    applied: &BTreeMap<i64, Applied>,
) -> Option<SchemaFault> {
    if applied.is_empty() {
        return Some(SchemaFault::Nothing);
    }
    let failed = applied.iter().find(|(_, applied)| !applied.success);
    if let Some((version, _)) = failed {
        return Some(SchemaFault::Failed(*version));
    }
    known.into_iter().find_map(|(version, checksum)| match applied.get(&version) {
        None => Some(SchemaFault::Missing(version)),
        Some(applied) if applied.checksum != checksum => Some(SchemaFault::Changed(version)),
        Some(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [(i64, &[u8]); 3] = [(1, b"a"), (2, b"b"), (3, b"c")];

    fn fault_of(rows: &[(i64, &[u8], bool)]) -> Option<SchemaFault> {
        let applied = rows.iter().map(|(version, checksum, success)| {
            (*version, Applied { checksum: checksum.to_vec(), success: *success })
        });
        fault(KNOWN.into_iter(), &applied.collect())
    }

    #[test]
    fn every_known_migration_has_to_be_there_and_be_itself() {
        let all: [(i64, &[u8], bool); 3] = [(1, b"a", true), (2, b"b", true), (3, b"c", true)];
        assert_eq!(fault_of(&all), None);
        assert_eq!(fault_of(&[]), Some(SchemaFault::Nothing));
        assert_eq!(fault_of(&all[..2]), Some(SchemaFault::Missing(3)));
        assert_eq!(fault_of(&[all[0], all[2]]), Some(SchemaFault::Missing(2)), "a gap");
        let changed = [all[0], (2, b"x".as_slice(), true), all[2]];
        assert_eq!(fault_of(&changed), Some(SchemaFault::Changed(2)));
    }

    #[test]
    fn one_that_failed_is_a_fault_even_when_nobody_knows_it() {
        let all: [(i64, &[u8], bool); 3] = [(1, b"a", true), (2, b"b", true), (3, b"c", true)];
        let later = |success| [all[0], all[1], all[2], (4, b"d".as_slice(), success)];
        assert_eq!(fault_of(&later(true)), None, "a newer release migrated already");
        assert_eq!(fault_of(&later(false)), Some(SchemaFault::Failed(4)));
    }
}
