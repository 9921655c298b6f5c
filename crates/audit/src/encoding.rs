//! The canonical bytes under every hash: a sequence of fields, each as its length (u64, little
//! endian) and its bytes.
//!
//! A number is a field of 8 bytes, little endian. A list or a record is one field whose bytes are
//! the fields of its parts. What is absent has the length `u64::MAX` and no bytes. For one schema
//! no two values share bytes.

use sha2::{Digest, Sha256};

use crate::Hash;

/// Collects fields.
#[derive(Debug, Default)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    /// Starts with what is encoded and in which version, so that bytes of one kind never pass for
    /// another.
    pub(crate) fn tagged(tag: &str) -> Self {
        let mut encoder = Self(Vec::with_capacity(512));
        encoder.text(tag);
        encoder
    }

    /// The length of a field whose bytes somebody else appends.
    pub(crate) fn length(&mut self, bytes: usize) {
        self.0.extend_from_slice(&(bytes as u64).to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn number(&mut self, number: i64) {
        self.bytes(&number.to_le_bytes());
    }

    pub(crate) fn texts(&mut self, items: &[String]) {
        self.record(|list| items.iter().for_each(|item| list.text(item)));
    }

    pub(crate) fn record(&mut self, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(&inner.0);
    }

    pub(crate) fn optional<T>(&mut self, value: Option<T>, fill: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => fill(self, value),
            None => self.0.extend_from_slice(&u64::MAX.to_le_bytes()),
        }
    }

    pub(crate) fn optional_text(&mut self, text: Option<&String>) {
        self.optional(text, |encoder, text| encoder.text(text));
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(fill: impl FnOnce(&mut Encoder)) -> Vec<u8> {
        let mut encoder = Encoder::tagged("t");
        fill(&mut encoder);
        encoder.into_bytes()
    }

    #[test]
    fn neighbours_do_not_run_together() {
        let texts = |items: &[&str]| {
            let items: Vec<String> = items.iter().map(|item| (*item).to_owned()).collect();
            encoded(|encoder| encoder.texts(&items))
        };
        let all = [texts(&[]), texts(&[""]), texts(&["", ""]), texts(&["ab"]), texts(&["a", "b"])];
        for (place, one) in all.iter().enumerate() {
            assert!(all[place + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn absent_is_not_empty() {
        let empty = encoded(|encoder| encoder.optional_text(Some(&String::new())));
        let absent = encoded(|encoder| encoder.optional_text(None));
        assert_ne!(empty, absent);
    }
}
