//! The keys of checkpoints: one signs, several may be known to a verifier.
//!
//! The written form of a public key is that of signed notes, `name+id+key`: id in hex, key in
//! base64 after the byte 1 for Ed25519. `audit.pub` has one a line; a new key is a further line.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::encoding::sha256;
use crate::hex;

/// The type byte of Ed25519 in signed notes.
const ED25519: u8 = 1;
/// Longest name of a key, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// Most keys that one verifier may know.
const MAX_KEYS: usize = 64;

/// A text is no key, or no list of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty, too long, or has other characters.
    #[error("the name of a key is 1 to {MAX_NAME_BYTES} printable ASCII characters without '+'")]
    Name,
    /// Not `name+id+key`.
    #[error("a public key looks like name+id+key, with the id in hex and the key in base64")]
    Form,
    /// The id is not that of the key: a letter was lost, perhaps.
    #[error("the id of the public key does not fit: it was copied incompletely or changed")]
    Id,
    /// No public key of Ed25519.
    #[error("not an Ed25519 public key")]
    Point,
    /// A list without a key.
    #[error("there is no public key")]
    None,
    /// A list with too many keys.
    #[error("there are more than {MAX_KEYS} public keys")]
    TooMany,
}

/// Signs checkpoints.
pub struct Signer {
    key: SigningKey,
    public: VerifierKey,
}

impl Signer {
    /// The key pair of the 32 secret bytes `seed`.
    ///
    /// # Errors
    /// When `name` is none for a key.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let public = VerifierKey::new(name, key.verifying_key())?;
        Ok(Self { key, public })
    }

    /// The public half.
    pub fn public(&self) -> &VerifierKey {
        &self.public
    }

    pub(crate) fn sign(&self, text: &str) -> [u8; 64] {
        self.key.sign(text.as_bytes()).to_bytes()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Signer").field(&self.public).finish()
    }
}

/// Verifies checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    fn new(name: &str, key: VerifyingKey) -> Result<Self, KeyError> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'+';
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(KeyError::Name);
        }
        let [a, b, c, d, ..] =
            sha256(&[name.as_bytes(), b"\n", &[ED25519], key.as_bytes()].concat());
        Ok(Self { name: name.to_owned(), id: [a, b, c, d], key })
    }

    /// Whose key it is, and the origin of the checkpoints that it signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells keys of one name apart.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    pub(crate) fn verifies(&self, text: &str, signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        self.key.verify_strict(text.as_bytes(), &signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode([&[ED25519], self.key.as_bytes().as_slice()].concat());
        write!(formatter, "{}+{}+{key}", self.name, hex::encode(&self.id))
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        // The base64 may contain a '+' of its own; name and id do not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Form);
        };
        let bytes = BASE64.decode(key).map_err(|_| KeyError::Form)?;
        let (kind, point) = bytes.split_first().ok_or(KeyError::Form)?;
        let point: &[u8; 32] = point.try_into().map_err(|_| KeyError::Form)?;
        if *kind != ED25519 {
            return Err(KeyError::Form);
        }
        let key = VerifyingKey::from_bytes(point).map_err(|_| KeyError::Point)?;
        let key = Self::new(name, key)?;
        if hex::decode(id) != Some(key.id) {
            return Err(KeyError::Id);
        }
        Ok(key)
    }
}

/// The keys that a verifier trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRing(Vec<VerifierKey>);

impl KeyRing {
    /// Reads one key a line. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// When there is no key, too many, or a line that is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let lines = text.lines().map(str::trim);
        let keys = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .take(MAX_KEYS + 1)
            .map(str::parse)
            .collect::<Result<Vec<_>, _>>()?;
        match keys.len() {
            0 => Err(KeyError::None),
            1..=MAX_KEYS => Ok(Self(keys)),
            _ => Err(KeyError::TooMany),
        }
    }

    pub(crate) fn find(&self, name: &str, id: [u8; 4]) -> Option<&VerifierKey> {
        self.0.iter().find(|key| key.name == name && key.id == id)
    }
}

impl From<VerifierKey> for KeyRing {
    fn from(key: VerifierKey) -> Self {
        Self(vec![key])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(seed: u8) -> Signer {
        Signer::new("example.com/audit", &[seed; 32]).expect("name")
    }

    #[test]
    fn a_public_key_reads_as_it_is_written() {
        let key = signer(1).public().clone();
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        let text = format!("# keys\n\n{key}\r\n{}\n", signer(2).public());
        let ring = KeyRing::parse(&text).expect("two keys");
        assert_eq!(ring.find(key.name(), key.id()), Some(&key));
        assert_eq!(ring.0.len(), 2);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let key = signer(1).public().to_string();
        let text = &key;
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(changed.parse::<VerifierKey>().is_err(), "{changed}");
            assert!(text[..place].parse::<VerifierKey>().is_err());
        }
        assert_eq!(KeyRing::parse("# none\n"), Err(KeyError::None));
        assert_eq!(KeyRing::parse(&format!("{key}\n").repeat(65)), Err(KeyError::TooMany));
        assert!(matches!(Signer::new("a b", &[0; 32]), Err(KeyError::Name)));
        assert!(matches!(Signer::new("a+b", &[0; 32]), Err(KeyError::Name)));
    }

    #[test]
    fn the_secret_half_is_not_shown() {
        let shown = format!("{:?}", signer(1));
        assert!(!shown.contains("1, 1, 1, 1"), "{shown}");
    }
}
