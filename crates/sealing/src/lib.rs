//! Seals values with a tenant's key (AES-256-GCM) and opens them again.
//!
//! A crate of its own, so that the workflow and PID 1 link neither a cipher nor a random source.
//! A sealed value is bound to its tenant and to a context such as `order/exe_…`: it cannot be
//! passed off as another one.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use domain::ids::TenantId;
use protocol::sealed::Sealed;
use serde::Serialize;
use serde::de::DeserializeOwned;

const NONCE_BYTES: usize = 12;

/// Sealing or opening failed. Says nothing of the value or the key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
    /// The value has no JSON form.
    #[error("value cannot be serialised")]
    Serialize,
    /// Encryption failed.
    #[error("encryption failed")]
    Encrypt,
    /// The wrong key, another tenant's value, another context, or a changed one.
    #[error("sealed value is not for this key, tenant and context, or was changed")]
    Refused,
    /// It opened, but does not contain what was expected.
    #[error("sealed value has an unexpected form")]
    Deserialize,
}

/// A secret key of 32 bytes.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// A new random key.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| SealError::Random)?;
        Ok(Self(bytes))
    }

    /// The key with these bytes; `None` unless there are 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The secret itself, for enrolment and wrapping.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Encrypts `plaintext` and binds it to `context`. The nonce comes first.
    ///
    /// # Errors
    /// When there are no random bytes or the cipher fails.
    pub fn wrap(&self, context: &str, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Random)?;
        let payload = Payload { msg: plaintext, aad: context.as_bytes() };
        let ciphertext =
            self.cipher()?.encrypt(&Nonce::from(nonce), payload).map_err(|_| SealError::Encrypt)?;
        Ok([nonce.as_slice(), &ciphertext].concat())
    }

    /// Decrypts what [`Key::wrap`] gave.
    ///
    /// # Errors
    /// With another key, another context, or a changed byte.
    pub fn unwrap(&self, context: &str, wrapped: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, ciphertext) =
            wrapped.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Refused)?;
        let payload = Payload { msg: ciphertext, aad: context.as_bytes() };
        self.cipher()?.decrypt(&Nonce::from(*nonce), payload).map_err(|_| SealError::Refused)
    }

    fn cipher(&self) -> Result<Aes256Gcm, SealError> {
        Aes256Gcm::new_from_slice(&self.0).map_err(|_| SealError::Encrypt)
    }
}

/// Seals `value` for `tenant_id`.
///
/// # Errors
/// See [`SealError`].
pub fn seal<T: Serialize>(
    key: &Key,
    tenant_id: TenantId,
    context: &str,
    value: &T,
) -> Result<Sealed<T>, SealError> {
    let plaintext = serde_json::to_vec(value).map_err(|_| SealError::Serialize)?;
    let mut wrapped = key.wrap(&binding(tenant_id, context), &plaintext)?;
    let ciphertext = wrapped.split_off(NONCE_BYTES);
    Ok(Sealed::from_parts(tenant_id, wrapped, ciphertext))
}

/// Opens what [`seal`] gave for the same tenant and context.
///
/// # Errors
/// See [`SealError`].
pub fn open<T: DeserializeOwned>(
    key: &Key,
    tenant_id: TenantId,
    context: &str,
    sealed: &Sealed<T>,
) -> Result<T, SealError> {
    let wrapped = [sealed.nonce.0.as_slice(), &sealed.ciphertext.0].concat();
    let plaintext = key.unwrap(&binding(tenant_id, context), &wrapped)?;
    serde_json::from_slice(&plaintext).map_err(|_| SealError::Deserialize)
}

fn binding(tenant_id: TenantId, context: &str) -> String {
    format!("bulkhead-sealed-v1/{tenant_id}/{context}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn tenant(n: u128) -> TenantId {
        Uuid::from_u128(n).into()
    }

    #[test]
    fn only_key_tenant_and_context_together_open() {
        let key = Key::generate().expect("random");
        let other = Key::generate().expect("random");
        let sealed = seal(&key, tenant(1), "order/a", &"secret".to_owned()).expect("seals");
        assert_eq!(open(&key, tenant(1), "order/a", &sealed).expect("opens"), "secret");
        assert!(open(&other, tenant(1), "order/a", &sealed).is_err());
        assert!(open(&key, tenant(2), "order/a", &sealed).is_err());
        assert!(open(&key, tenant(1), "result/a", &sealed).is_err());
    }

    #[test]
    fn a_changed_byte_is_refused() {
        let key = Key::generate().expect("random");
        let mut sealed = seal(&key, tenant(1), "a", &7_u8).expect("seals");
        sealed.ciphertext.0[0] ^= 1;
        assert!(open(&key, tenant(1), "a", &sealed).is_err());
        assert!(key.unwrap("a", b"short").is_err());
    }

    #[test]
    fn a_sealed_value_shows_nothing_of_its_content() {
        let key = Key::generate().expect("random");
        let sealed = seal(&key, tenant(1), "a", &"topsecret".to_owned()).expect("seals");
        let json = serde_json::to_string(&sealed).expect("serialises");
        assert!(!json.contains("topsecret"));
    }
}
