//! The keys that sign audit checkpoints, as files that the database never sees: `audit.key`, after
//! a rotation `audit.previous.key` beside it, and `audit.pub` with every public half there ever was.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use audit::{KeyRing, Signer};

const CURRENT: &str = "audit.key";
const PREVIOUS: &str = "audit.previous.key";
/// The next key until it takes its place.
const NEXT: &str = "audit.next.key";
const PUBLIC: &str = "audit.pub";

/// See the module.
pub struct AuditKeys {
    /// Those that sign: the current one, and during a rotation the previous one.
    pub signers: Vec<Signer>,
    /// Those whose signatures hold.
    pub known: KeyRing,
}

/// Keys could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum AuditKeyError {
    /// A file cannot be used.
    #[error("cannot use {path}: {source}; `bulkhead-control-plane migrate` makes missing keys")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a key file.
    #[error("{0} is not an audit key: it must be a name and 64 hex digits")]
    Malformed(PathBuf),
    /// A rotation is still going on.
    #[error(
        "{0} exists: the last rotation is not over; move the file away once every auditor has \
             the new audit.pub"
    )]
    Rotating(PathBuf),
    /// The key that signs now is gone, and the one before it is there.
    #[error(
        "{0} is missing though there is a previous key: put it back from a backup, or move the \
             previous one to its place; a new one would belong to another log"
    )]
    Gone(PathBuf),
    /// Not a list of public keys.
    #[error("{path}: {source}")]
    Public {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: audit::KeyError,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
}

impl AuditKeys {
    /// Makes the key in `folder` if there is none. An existing one is never touched.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create_missing(folder: &Path) -> Result<(), AuditKeyError> {
        if folder.join(CURRENT).exists() {
            return Ok(());
        }
        if folder.join(PREVIOUS).exists() {
            return Err(AuditKeyError::Gone(folder.join(CURRENT)));
        }
        let [a, b, c, d] = random::<4>()?;
        let origin = format!("bulkhead/{}", audit::hex::encode(&[a, b, c, d]));
        make(folder, &origin)?;
        put_in_place(folder)
    }

    /// Reads the keys in `folder`.
    ///
    /// # Errors
    /// When one is missing or malformed.
    pub fn load(folder: &Path) -> Result<Self, AuditKeyError> {
        let mut signers = vec![read(&folder.join(CURRENT))?];
        let previous = folder.join(PREVIOUS);
        if previous.exists() {
            // A rotation that broke off leaves the same key under both names.
            let previous = read(&previous)?;
            let is_another = signers.iter().all(|key| key.public() != previous.public());
            signers.extend(is_another.then_some(previous));
        }
        let path = folder.join(PUBLIC);
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        let known =
            KeyRing::parse(&text).map_err(|source| AuditKeyError::Public { path, source })?;
        Ok(Self { signers, known })
    }

    /// Makes a new key. The one that signed so far goes on signing beside it, until an operator
    /// removes its file: auditors have that long to fetch the new public key.
    ///
    /// # Errors
    /// When the rotation before is not over, or a file cannot be used.
    pub fn rotate(folder: &Path) -> Result<(), AuditKeyError> {
        let (current, previous) = (folder.join(CURRENT), folder.join(PREVIOUS));
        if previous.exists() {
            return Err(AuditKeyError::Rotating(previous));
        }
        let origin = read(&current)?.public().name().to_owned();
        make(folder, &origin)?;
        // At every moment there is a current key.
        fs::hard_link(&current, &previous).map_err(failed(&previous))?;
        put_in_place(folder)
    }
}

/// The next key becomes the current one.
fn put_in_place(folder: &Path) -> Result<(), AuditKeyError> {
    let (next, current) = (folder.join(NEXT), folder.join(CURRENT));
    fs::rename(&next, &current).map_err(failed(&current))?;
    let opened = fs::File::open(folder);
    opened.and_then(|folder| folder.sync_all()).map_err(failed(folder))
}

/// Makes the next key.
fn make(folder: &Path, origin: &str) -> Result<(), AuditKeyError> {
    let seed = random::<32>()?;
    let (secret, public) = (folder.join(NEXT), folder.join(PUBLIC));
    // What an attempt that broke off has left.
    match fs::remove_file(&secret) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&secret)(error));
        }
        _ => {}
    }
    let signer =
        Signer::new(origin, &seed).map_err(|_| AuditKeyError::Malformed(secret.clone()))?;
    // The public half first: a checkpoint that nobody can verify is worse than a key too many.
    write(&public, &format!("{}\n", signer.public()), 0o644)?;
    write(&secret, &format!("{origin} {}\n", audit::hex::encode(&seed)), 0o600)
}

fn write(path: &Path, line: &str, mode: u32) -> Result<(), AuditKeyError> {
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(mode).open(path);
    let mut file = file.map_err(failed(path))?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed(path))
}

fn read(path: &Path) -> Result<Signer, AuditKeyError> {
    let text = fs::read_to_string(path).map_err(failed(path))?;
    let parsed = text.trim_end().split_once(' ').and_then(|(name, seed)| {
        let seed = audit::hex::decode(seed)?;
        Signer::new(name, &seed).ok()
    });
    parsed.ok_or_else(|| AuditKeyError::Malformed(path.to_owned()))
}

fn random<const N: usize>() -> Result<[u8; N], AuditKeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| AuditKeyError::Random)?;
    Ok(bytes)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> AuditKeyError {
    let path = path.to_owned();
    move |source| AuditKeyError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_rotated_with_both_known() {
        let folder = std::env::temp_dir().join(format!("bulkhead-keys-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        AuditKeys::create_missing(&folder).unwrap();
        let first = AuditKeys::load(&folder).unwrap().signers[0].public().clone();
        AuditKeys::create_missing(&folder).unwrap();
        AuditKeys::rotate(&folder).unwrap();
        let keys = AuditKeys::load(&folder).unwrap();
        let names: Vec<_> = keys.signers.iter().map(Signer::public).collect();
        assert_eq!(names.len(), 2);
        assert_eq!(names[1], &first);
        assert_ne!(names[0], &first);
        assert_eq!(names[0].name(), first.name());
        assert!(matches!(AuditKeys::rotate(&folder), Err(AuditKeyError::Rotating(_))));
        let public = fs::read_to_string(folder.join(PUBLIC)).unwrap();
        assert_eq!(public.lines().count(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_rotation_that_broke_off_leaves_a_key_that_signs() {
        let folder = std::env::temp_dir().join(format!("bulkhead-broken-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        AuditKeys::create_missing(&folder).unwrap();
        let first = AuditKeys::load(&folder).unwrap().signers[0].public().clone();
        // It died with the next key written, then with the current one under both names.
        make(&folder, first.name()).unwrap();
        assert_eq!(AuditKeys::load(&folder).unwrap().signers[0].public(), &first);
        fs::hard_link(folder.join(CURRENT), folder.join(PREVIOUS)).unwrap();
        let signers = AuditKeys::load(&folder).unwrap().signers;
        assert_eq!(signers.iter().map(Signer::public).collect::<Vec<_>>(), [&first]);
        fs::remove_file(folder.join(PREVIOUS)).unwrap();
        AuditKeys::rotate(&folder).unwrap();
        let keys = AuditKeys::load(&folder).unwrap();
        assert_eq!((keys.signers.len(), keys.signers[1].public()), (2, &first));
        // Without the current one no other log is begun.
        fs::remove_file(folder.join(CURRENT)).unwrap();
        assert!(matches!(AuditKeys::create_missing(&folder), Err(AuditKeyError::Gone(_))));
        fs::remove_dir_all(&folder).unwrap();
    }
}
