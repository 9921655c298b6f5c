//! A key pair for signatures (Ed25519), named by its public half.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use jsonwebtoken::{DecodingKey, EncodingKey};
use protocol::grant::hex;
use sha2::{Digest, Sha256};

use super::KeyError;

/// See the module.
pub struct Signer {
    /// Signs.
    pub encoding: EncodingKey,
    /// Verifies.
    pub decoding: DecodingKey,
    /// The public half, 32 bytes.
    pub public: [u8; 32],
    /// Its name: the first 16 hex digits of the public half's SHA-256.
    pub kid: String,
}

impl Signer {
    /// The pair that a secret of 32 bytes stands for.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub(super) fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let private = key.to_pkcs8_der().map_err(|_| KeyError::Make)?;
        let public = key.verifying_key().to_bytes();
        let mut kid = hex(&Sha256::digest(public));
        kid.truncate(16);
        Ok(Self {
            encoding: EncodingKey::from_ed_der(private.as_bytes()),
            decoding: DecodingKey::from_ed_der(&public),
            public,
            kid,
        })
    }
}
