//! A value encrypted with its tenant's key. Whoever holds no key passes it on unread.
//!
//! This is what Temporal's history contains of commands and output. Sealing and opening stand in
//! the `sealing` crate, so that the workflow and PID 1 link no cipher.

use std::marker::PhantomData;

use domain::ids::TenantId;
use serde::{Deserialize, Serialize};

use crate::binary::Binary;

/// An encrypted `T`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Sealed<T> {
    /// Whose key opens it.
    pub tenant_id: TenantId,
    /// AES-256-GCM nonce, 12 bytes.
    pub nonce: Binary,
    /// Ciphertext with its tag.
    pub ciphertext: Binary,
    #[serde(skip)]
    marker: PhantomData<fn() -> T>,
}

impl<T> Sealed<T> {
    /// Wraps what the `sealing` crate produced.
    pub fn from_parts(tenant_id: TenantId, nonce: Vec<u8>, ciphertext: Vec<u8>) -> Self {
        Self {
            tenant_id,
            nonce: Binary(nonce),
            ciphertext: Binary(ciphertext),
            marker: PhantomData,
        }
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self::from_parts(self.tenant_id, self.nonce.0.clone(), self.ciphertext.0.clone())
    }
}

impl<T> PartialEq for Sealed<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.tenant_id, &self.nonce, &self.ciphertext)
            == (other.tenant_id, &other.nonce, &other.ciphertext)
    }
}

impl<T> Eq for Sealed<T> {}
