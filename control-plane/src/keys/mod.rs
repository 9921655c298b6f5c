//! The control plane's own secrets: what signs tokens, what signs grants, what wraps tenants'
//! payload keys. Files in one folder, readable by the owner alone; never printed, never stored.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::ids::TenantId;
use sealing::{Key, SealError};

mod ring;
mod signer;

pub use ring::{KeyRing, Purpose};
pub use signer::Signer;

/// How often keys are read again.
const REFRESH: Duration = Duration::from_secs(2);

/// See the module.
pub struct Keys {
    /// Sign and verify tokens.
    pub tokens: KeyRing,
    /// Sign grants.
    pub grants: KeyRing,
    master: Key,
}

/// Keys could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The folder or a file in it cannot be used.
    #[error("cannot use {path}: {source}; `bulkhead-control-plane migrate` makes missing keys")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not contain 32 bytes.
    #[error("{0} is not a key: it must be 32 bytes")]
    Malformed(PathBuf),
    /// The operating system gave no random bytes, or a key cannot be encoded.
    #[error("cannot make a key")]
    Make,
}

impl KeyError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

const FILES: [&str; 3] = ["token.key", "grant.key", "master.key"];

impl Keys {
    /// Makes those keys that are missing in `folder`. Existing ones are never touched.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create_missing(folder: &Path) -> Result<(), KeyError> {
        fs::create_dir_all(folder).map_err(KeyError::file(folder))?;
        for name in FILES {
            create_seed(&folder.join(name))?;
        }
        Ok(())
    }

    /// Reads the keys in `folder`.
    ///
    /// # Errors
    /// When one is missing or malformed.
    pub fn load(folder: &Path) -> Result<Self, KeyError> {
        let read = |name: &str| read_seed(&folder.join(name));
        Ok(Self {
            tokens: KeyRing::load(folder, Purpose::Tokens)?,
            grants: KeyRing::load(folder, Purpose::Grants)?,
            master: Key::from_bytes(&read(FILES[2])?).ok_or(KeyError::Make)?,
        })
    }

    /// Reads the keys that sign again.
    ///
    /// # Errors
    /// When one is missing or malformed; then those that were known stay.
    pub fn reload(&self) -> Result<(), KeyError> {
        self.tokens.reload()?;
        self.grants.reload()
    }

    /// Keeps them fresh for as long as the process lives: small files, read in microseconds. A key
    /// that was added must be known before the first thing that it signed comes.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(REFRESH).await;
            if let Err(error) = self.reload() {
                tracing::warn!(%error, "keys cannot be read again; the known ones stay");
            }
        }
    }

    /// Wraps a tenant's payload key for the database.
    ///
    /// # Errors
    /// When encryption fails.
    pub fn wrap(&self, tenant_id: TenantId, key: &Key) -> Result<Vec<u8>, SealError> {
        self.master.wrap(&format!("payload-key/{tenant_id}"), key.expose())
    }

    /// Wraps another secret for the database.
    ///
    /// # Errors
    /// When encryption fails.
    pub fn wrap_secret(&self, context: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        self.master.wrap(context, secret)
    }

    /// Opens what [`Keys::wrap_secret`] gave.
    ///
    /// # Errors
    /// When it was made with another master key or in another context.
    pub fn unwrap_secret(&self, context: &str, wrapped: &[u8]) -> Result<Vec<u8>, SealError> {
        self.master.unwrap(context, wrapped)
    }

    /// Opens what [`Keys::wrap`] gave.
    ///
    /// # Errors
    /// When it was made with another master key or for another tenant.
    pub fn unwrap(&self, tenant_id: TenantId, wrapped: &[u8]) -> Result<Key, SealError> {
        let bytes = self.master.unwrap(&format!("payload-key/{tenant_id}"), wrapped)?;
        Key::from_bytes(&bytes).ok_or(SealError::Deserialize)
    }
}

fn read_seed(path: &Path) -> Result<[u8; 32], KeyError> {
    let bytes = fs::read(path).map_err(KeyError::file(path))?;
    bytes.try_into().map_err(|_| KeyError::Malformed(path.to_owned()))
}

/// Makes a key that only we can read. False when there is one already: it is never touched.
fn create_seed(path: &Path) -> Result<bool, KeyError> {
    let secret = Key::generate().map_err(|_| KeyError::Make)?;
    let mut options = fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            file.write_all(secret.expose()).map_err(KeyError::file(path))?;
            file.sync_all().map_err(KeyError::file(path))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(KeyError::file(path)(error)),
    }
}
