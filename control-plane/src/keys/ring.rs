//! The keys of one purpose: `token.key` signs tokens, it and every `token-….key` verify them; the
//! same with `grant` for grants.
//!
//! A key is changed in three steps, each of which running processes notice within seconds:
//! *prepare* makes the next key, which only verifies; *activate* lets it sign while the old one
//! verifies on; *retire* removes the old ones, and with them what they signed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::{KeyError, Signer, create_seed, read_seed};

/// What keys are for. None is ever used for anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Tokens of callers.
    Tokens,
    /// Grants for executors.
    Grants,
}

impl Purpose {
    /// What the names of its files begin with, and how the key set calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "token",
            Self::Grants => "grant",
        }
    }

    /// The key that signs.
    pub(super) fn current(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.key", self.as_str()))
    }

    fn next(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}-next.key", self.as_str()))
    }

    fn old(self) -> String {
        format!("{}-old-", self.as_str())
    }
}

/// See the module.
pub struct KeyRing {
    folder: PathBuf,
    purpose: Purpose,
    ring: RwLock<Arc<Ring>>,
}

struct Ring {
    signer: Arc<Signer>,
    by_kid: HashMap<String, Arc<Signer>>,
}

impl KeyRing {
    /// Reads the keys in `folder`.
    ///
    /// # Errors
    /// When one is missing or malformed.
    pub(super) fn load(folder: &Path, purpose: Purpose) -> Result<Self, KeyError> {
        let ring = RwLock::new(Arc::new(read(folder, purpose)?));
        Ok(Self { folder: folder.to_owned(), purpose, ring })
    }

    /// Reads them again.
    ///
    /// # Errors
    /// When one is missing or malformed; then those that were known stay.
    pub fn reload(&self) -> Result<(), KeyError> {
        let ring = Arc::new(read(&self.folder, self.purpose)?);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(())
    }

    /// The key that signs.
    pub fn signer(&self) -> Arc<Signer> {
        self.ring().signer.clone()
    }

    /// The key with this name.
    pub fn find(&self, kid: &str) -> Option<Arc<Signer>> {
        self.ring().by_kid.get(kid).cloned()
    }

    /// All keys that verify.
    pub fn all(&self) -> Vec<Arc<Signer>> {
        let mut all: Vec<_> = self.ring().by_kid.values().cloned().collect();
        all.sort_by(|a, b| a.kid.cmp(&b.kid));
        all
    }

    fn ring(&self) -> Arc<Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the next key, which verifies from now on. Gives its name.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn prepare(folder: &Path, purpose: Purpose) -> Result<String, KeyError> {
        let path = purpose.next(folder);
        create_seed(&path)?;
        Ok(Signer::from_seed(&read_seed(&path)?)?.kid)
    }

    /// Lets the next key sign. The one that did so far verifies on. Gives the new one's name.
    ///
    /// # Errors
    /// When there is no next key or the folder cannot be written.
    pub fn activate(folder: &Path, purpose: Purpose) -> Result<String, KeyError> {
        let (current, next) = (purpose.current(folder), purpose.next(folder));
        let kid = Signer::from_seed(&read_seed(&next)?)?.kid;
        let old = Signer::from_seed(&read_seed(&current)?)?.kid;
        let kept = folder.join(format!("{}{old}.key", purpose.old()));
        // Linked first: at no moment is a key without a file.
        match fs::hard_link(&current, &kept) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(KeyError::file(&kept)(error));
            }
            _ => {}
        }
        fs::rename(&next, &current).map_err(KeyError::file(&current))?;
        Ok(kid)
    }

    /// Removes the keys that only verify what is old. Gives their names.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn retire(folder: &Path, purpose: Purpose) -> Result<Vec<String>, KeyError> {
        let (mut retired, old) = (Vec::new(), purpose.old());
        for path in files(folder, purpose)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(kid) = name.strip_prefix(&old).and_then(|name| name.strip_suffix(".key")) {
                fs::remove_file(&path).map_err(KeyError::file(&path))?;
                retired.push(kid.to_owned());
            }
        }
        Ok(retired)
    }
}

fn read(folder: &Path, purpose: Purpose) -> Result<Ring, KeyError> {
    let signer = Arc::new(Signer::from_seed(&read_seed(&purpose.current(folder))?)?);
    let mut by_kid = HashMap::from([(signer.kid.clone(), signer.clone())]);
    for path in files(folder, purpose)? {
        let key = Signer::from_seed(&read_seed(&path)?)?;
        by_kid.insert(key.kid.clone(), Arc::new(key));
    }
    Ok(Ring { signer, by_kid })
}

/// The files of keys that only verify.
fn files(folder: &Path, purpose: Purpose) -> Result<Vec<PathBuf>, KeyError> {
    let entries = fs::read_dir(folder).map_err(KeyError::file(folder))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let prefix = format!("{}-", purpose.as_str());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(&prefix) && name.ends_with(".key")
    };
    Ok(paths.filter(is_ours).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;

    #[test]
    fn a_key_is_changed_with_an_overlap_and_no_other_purpose_notices() {
        change(Purpose::Tokens, Purpose::Grants);
        change(Purpose::Grants, Purpose::Tokens);
    }

    fn change(purpose: Purpose, other: Purpose) {
        let name = format!("bulkhead-{}-keys-{}", purpose.as_str(), std::process::id());
        let folder = std::env::temp_dir().join(name);
        Keys::create_missing(&folder).expect("keys");
        let keys = KeyRing::load(&folder, purpose).expect("loads");
        let others = KeyRing::load(&folder, other).expect("loads");
        let others_kid = others.signer().kid.clone();
        let first = keys.signer().kid.clone();
        let next = KeyRing::prepare(&folder, purpose).expect("prepares");
        assert_eq!(KeyRing::prepare(&folder, purpose).expect("again"), next);
        keys.reload().expect("reloads");
        assert_eq!(keys.signer().kid, first);
        assert!(keys.find(&next).is_some(), "the next key verifies before it signs");
        assert_eq!(KeyRing::activate(&folder, purpose).expect("activates"), next);
        keys.reload().expect("reloads");
        assert_eq!(keys.signer().kid, next);
        assert!(keys.find(&first).is_some(), "the old key verifies on");
        let retired = KeyRing::retire(&folder, purpose).expect("retires");
        assert_eq!(retired, std::slice::from_ref(&first));
        keys.reload().expect("reloads");
        assert!(keys.find(&first).is_none() && keys.all().len() == 1);
        assert!(KeyRing::activate(&folder, purpose).is_err(), "no next key");
        others.reload().expect("reloads");
        assert!(others.signer().kid == others_kid && others.all().len() == 1);
        std::fs::remove_dir_all(folder).expect("cleans up");
    }
}
