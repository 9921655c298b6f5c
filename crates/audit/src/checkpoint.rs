//! A checkpoint: what every chain was at one moment, in one signed root.
//!
//! Its text has the lines of a transparency log's checkpoint (<https://c2sp.org/tlog-checkpoint>):
//! origin, number of leaves, root; and then `number`, `time_us` and `previous`, the digest of the
//! text before. Unlike such a log's, the tree is made anew each time: a leaf is a chain, which grows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::encoding::sha256;
use crate::keys::{KeyRing, Signer};
use crate::note::{self, NoteError};
use crate::{GENESIS, Hash};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The installation; the name of the key that signs.
    pub origin: String,
    /// How many chains the root is over.
    pub chains: u64,
    /// [`Tree::root`](crate::Tree::root) of all chains.
    pub root: Hash,
    /// From 1, without gaps.
    pub number: i64,
    /// When it was made, in microseconds since the epoch.
    pub time_us: i64,
    /// [`Checkpoint::digest`] of the one before; zeros in the first one.
    pub previous: Hash,
}

/// A note that is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// No known key signed it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Signed, but not a checkpoint's text.
    #[error("the signed text is not that of a checkpoint")]
    Form,
    /// Signed by a key for something else.
    #[error("the checkpoint is of {origin}, and the key that signed it of {signer}")]
    Origin {
        /// Where it says it is from.
        origin: String,
        /// Who signed it.
        signer: String,
    },
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let Self { origin, chains, root, number, time_us, previous } = self;
        let (root, previous) = (BASE64.encode(root), BASE64.encode(previous));
        format!(
            "{origin}\n{chains}\n{root}\nnumber {number}\ntime_us {time_us}\nprevious {previous}\n"
        )
    }

    /// What the next checkpoint names as the one before.
    pub fn digest(&self) -> Hash {
        sha256(self.text().as_bytes())
    }

    /// The signed note.
    ///
    /// # Errors
    /// When a signer is not of this origin: what it signs would open nowhere.
    pub fn sign(&self, signers: &[&Signer]) -> Result<String, CheckpointError> {
        if let Some(other) = signers.iter().find(|signer| signer.public().name() != self.origin) {
            return Err(self.wrong_origin(other.public().name()));
        }
        Ok(note::sign(&self.text(), signers))
    }

    /// Opens a signed note.
    ///
    /// # Errors
    /// When no known key signed it, or it is no checkpoint of that key's origin.
    pub fn open(note: &str, keys: &KeyRing) -> Result<Self, CheckpointError> {
        let (text, signer) = note::open(note, keys)?;
        let checkpoint = Self::parse(text).ok_or(CheckpointError::Form)?;
        if checkpoint.origin != signer.name() {
            return Err(checkpoint.wrong_origin(signer.name()));
        }
        Ok(checkpoint)
    }

    fn wrong_origin(&self, signer: &str) -> CheckpointError {
        CheckpointError::Origin { origin: self.origin.clone(), signer: signer.into() }
    }

    /// Reads a text without looking at who signed it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let checkpoint = Self {
            origin: lines.next()?.to_owned(),
            chains: lines.next()?.parse().ok()?,
            root: hash(lines.next()?)?,
            number: lines.next()?.strip_prefix("number ")?.parse().ok()?,
            time_us: lines.next()?.strip_prefix("time_us ")?.parse().ok()?,
            previous: hash(lines.next()?.strip_prefix("previous ")?)?,
        };
        let first_follows_nothing = checkpoint.number != 1 || checkpoint.previous == GENESIS;
        // Written again it must be the same: no leading zero, no line too many.
        let canonical = checkpoint.text() == text;
        (canonical && checkpoint.number > 0 && first_follows_nothing).then_some(checkpoint)
    }
}

fn hash(text: &str) -> Option<Hash> {
    BASE64.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: "example.com/audit".into(),
            chains: 2,
            root: [1; 32],
            number: 7,
            time_us: 1_700_000_000_000_000,
            previous: [2; 32],
        }
    }

    fn signer(name: &str) -> Signer {
        Signer::new(name, &[1; 32]).expect("name")
    }

    #[test]
    fn it_opens_as_it_was_signed() {
        let signer = signer("example.com/audit");
        let note = checkpoint().sign(&[&signer]).expect("signs");
        let keys = signer.public().clone().into();
        assert_eq!(Checkpoint::open(&note, &keys), Ok(checkpoint()));
    }

    #[test]
    fn another_origin_is_refused() {
        let other = signer("example.com/other");
        assert!(matches!(checkpoint().sign(&[&other]), Err(CheckpointError::Origin { .. })));
        let note = note::sign(&checkpoint().text(), &[&other]);
        let opened = Checkpoint::open(&note, &other.public().clone().into());
        assert!(matches!(opened, Err(CheckpointError::Origin { .. })));
    }

    #[test]
    fn a_text_has_one_form() {
        let text = checkpoint().text();
        assert_eq!(Checkpoint::parse(&text), Some(checkpoint()));
        for (from, to) in [
            ("\n2\n", "\n02\n"),
            ("\n2\n", "\n+2\n"),
            ("number 7", "number -7"),
            ("number 7", "number 0"),
            ("number 7", "number 1"),
            ("number 7", "number  7"),
            ("time_us ", "time "),
        ] {
            assert_eq!(Checkpoint::parse(&text.replacen(from, to, 1)), None, "{to}");
        }
        assert_eq!(Checkpoint::parse(&(text.clone() + "more\n")), None);
        assert_eq!(Checkpoint::parse(text.trim_end()), None);
    }
}
