//! The control plane's own secrets: what signs tokens, what signs grants, what wraps tenants'
//! payload keys. Files in one folder, readable by the owner alone; never printed, never stored.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use domain::ids::TenantId;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use jsonwebtoken::{DecodingKey, EncodingKey};
use sealing::{Key, SealError};

/// A key pair for signatures (Ed25519).
pub struct Signer {
    /// Signs.
    pub encoding: EncodingKey,
    /// Verifies.
    pub decoding: DecodingKey,
    /// The public half, 32 bytes.
    pub public: [u8; 32],
}

/// See the module.
pub struct Keys {
    /// Signs tokens.
    pub token: Signer,
    /// Signs grants.
    pub grant: Signer,
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

const FILES: [&str; 3] = ["token.key", "grant.key", "master.key"];

impl Keys {
    /// Makes those keys that are missing in `folder`. Existing ones are never touched.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create_missing(folder: &Path) -> Result<(), KeyError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyError::File { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        for name in FILES {
            let path = folder.join(name);
            let secret = Key::generate().map_err(|_| KeyError::Make)?;
            let mut options = fs::OpenOptions::new();
            match options.write(true).create_new(true).mode(0o600).open(&path) {
                Ok(mut file) => {
                    file.write_all(secret.expose()).map_err(failed(&path))?;
                    file.sync_all().map_err(failed(&path))?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&path)(error)),
            }
        }
        Ok(())
    }

    /// Reads the keys in `folder`.
    ///
    /// # Errors
    /// When one is missing or malformed.
    pub fn load(folder: &Path) -> Result<Self, KeyError> {
        let read = |name: &str| {
            let path = folder.join(name);
            let bytes =
                fs::read(&path).map_err(|source| KeyError::File { path: path.clone(), source })?;
            <[u8; 32]>::try_from(bytes).map_err(|_| KeyError::Malformed(path))
        };
        Ok(Self {
            token: signer(&read(FILES[0])?)?,
            grant: signer(&read(FILES[1])?)?,
            master: Key::from_bytes(&read(FILES[2])?).ok_or(KeyError::Make)?,
        })
    }

    /// Wraps a tenant's payload key for the database.
    ///
    /// # Errors
    /// When encryption fails.
    pub fn wrap(&self, tenant_id: TenantId, key: &Key) -> Result<Vec<u8>, SealError> {
        self.master.wrap(&format!("payload-key/{tenant_id}"), key.expose())
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

fn signer(seed: &[u8; 32]) -> Result<Signer, KeyError> {
    let key = SigningKey::from_bytes(seed);
    let private = key.to_pkcs8_der().map_err(|_| KeyError::Make)?;
    let public = key.verifying_key().to_bytes();
    Ok(Signer {
        encoding: EncodingKey::from_ed_der(private.as_bytes()),
        decoding: DecodingKey::from_ed_der(&public),
        public,
    })
}
