//! Signed notes (<https://c2sp.org/signed-note>) with Ed25519: a text, an empty line, and a line
//! per signature. A text comes out only if a known key signed it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::hex;
use crate::keys::{KeyRing, Signer, VerifierKey};

/// Longest note, in bytes.
const MAX_NOTE_BYTES: usize = 16 * 1024;
/// Most signatures of one note.
const MAX_SIGNATURES: usize = 16;
/// A signature line begins with an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// A note that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not the form of a signed note.
    #[error("not a signed note")]
    Form,
    /// Larger than a note may be.
    #[error("the note is too long, or has too many signatures")]
    TooLong,
    /// Nobody known signed it.
    #[error("it is signed by {signers}, and by none of the given keys")]
    UnknownKey {
        /// Who did sign: names and ids.
        signers: String,
    },
    /// A known key did not sign this text.
    #[error(
        "the signature of {signer} is not over this text: the text or the signature was changed"
    )]
    WrongSignature {
        /// Name and id of the key.
        signer: String,
    },
}

/// Signs `text`, which ends with a newline, with every key of `signers`: during a rotation with the
/// old one and the new one.
pub(crate) fn sign(text: &str, signers: &[&Signer]) -> String {
    let mut note = format!("{text}\n");
    for signer in signers {
        let public = signer.public();
        let signature = BASE64.encode([public.id().as_slice(), &signer.sign(text)].concat());
        note += &format!("{SIGNATURE_PREFIX}{} {signature}\n", public.name());
    }
    note
}

/// The text of `note` and a key that signed it.
///
/// # Errors
/// When no known key signed the text, or a signature that names a known key is wrong.
pub(crate) fn open<'note, 'keys>(
    note: &'note str,
    keys: &'keys KeyRing,
) -> Result<(&'note str, &'keys VerifierKey), NoteError> {
    if note.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLong);
    }
    if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::Form);
    }
    let end = note.rfind("\n\n").ok_or(NoteError::Form)? + 1;
    let (text, rest) = note.split_at(end);
    let lines = rest[1..].strip_suffix('\n').ok_or(NoteError::Form)?;
    if lines.split('\n').count() > MAX_SIGNATURES {
        return Err(NoteError::TooLong);
    }
    let mut verified = None;
    let mut signers = Vec::new();
    for line in lines.split('\n') {
        let signature = SignatureLine::parse(line).ok_or(NoteError::Form)?;
        let signer = format!("{}+{}", signature.name, hex::encode(&signature.id));
        if let Some(key) = keys.find(signature.name, signature.id) {
            let bytes = signature.bytes.as_slice().try_into();
            if !bytes.is_ok_and(|bytes| key.verifies(text, bytes)) {
                return Err(NoteError::WrongSignature { signer });
            }
            verified = verified.or(Some(key));
        }
        signers.push(signer);
    }
    verified
        .map(|key| (text, key))
        .ok_or_else(|| NoteError::UnknownKey { signers: signers.join(", ") })
}

struct SignatureLine<'a> {
    name: &'a str,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl<'a> SignatureLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, signature) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
        let bytes = BASE64.decode(signature).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        let named = !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace());
        (named && !bytes.is_empty()).then(|| Self { name, id: *id, bytes: bytes.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(name: &str, seed: u8) -> Signer {
        Signer::new(name, &[seed; 32]).expect("name")
    }

    fn ring(signer: &Signer) -> KeyRing {
        signer.public().clone().into()
    }

    #[test]
    fn a_signature_of_somebody_unknown_is_named() {
        let (signer, other) = (signer("a", 1), signer("a", 2));
        let refused = open(&sign("text\n", &[&signer]), &ring(&other)).expect_err("unknown key");
        let signers = format!("a+{}", hex::encode(&signer.public().id()));
        assert_eq!(refused, NoteError::UnknownKey { signers });
    }

    #[test]
    fn one_known_signature_suffices() {
        let (old, new) = (signer("a", 1), signer("a", 2));
        let note = sign("text\n\nmore\n", &[&old, &new]);
        for signer in [&old, &new] {
            let keys = ring(signer);
            assert_eq!(open(&note, &keys), Ok(("text\n\nmore\n", signer.public())));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let signer = signer("a", 1);
        let note = sign("text\n", &[&signer]);
        for place in 0..note.len() {
            for bit in 0..8 {
                let mut bytes = note.clone().into_bytes();
                bytes[place] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                assert!(open(&changed, &ring(&signer)).is_err(), "{changed}");
            }
        }
        for end in 0..note.len() {
            let cut = note.get(..end).unwrap_or_default();
            assert!(open(cut, &ring(&signer)).is_err());
        }
    }

    #[test]
    fn a_wrong_signature_beside_a_right_one_is_refused() {
        let (a, b) = (signer("a", 1), signer("b", 2));
        let other = sign("other\n", &[&b]);
        let note = sign("text\n", &[&a]) + other.strip_prefix("other\n\n").expect("text");
        let keys = KeyRing::parse(&format!("{}\n{}", a.public(), b.public())).expect("keys");
        assert!(matches!(open(&note, &keys), Err(NoteError::WrongSignature { .. })));
        assert!(open(&note, &ring(&a)).is_ok());
    }

    #[test]
    fn a_note_has_bounds() {
        let signer = signer("a", 1);
        let many = sign("text\n", &[&signer; 17]);
        assert_eq!(open(&many, &ring(&signer)), Err(NoteError::TooLong));
        let long = sign(&format!("{}\n", "x".repeat(20_000)), &[&signer]);
        assert_eq!(open(&long, &ring(&signer)), Err(NoteError::TooLong));
    }
}
