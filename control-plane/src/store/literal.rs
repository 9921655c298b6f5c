//! Values as SQL literals, for a text that is sent as a whole: only so do several statements go to
//! Postgres at once. Everything else binds its values.
//!
//! Safe because each connection is told that a backslash is an ordinary character in a literal
//! (`standard_conforming_strings`), because texts are UTF-8 on both sides, where the byte of a quote
//! is never part of another character, and because bytes and numbers are written with digits only.

use std::fmt::Write as _;

/// Collects the arguments of a call, in order.
#[derive(Debug, Default)]
pub(super) struct Arguments(String);

impl Arguments {
    /// Adds a text. Postgres stores no NUL character, so the whole is refused with one.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.begin();
        self.quote(text);
        self
    }

    /// Adds a text, if there is one.
    pub(super) fn optional_text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// Adds a list of texts.
    pub(super) fn texts(&mut self, texts: &[String]) -> &mut Self {
        self.begin();
        self.0.push_str("ARRAY[");
        for (index, text) in texts.iter().enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            self.quote(text);
        }
        self.0.push_str("]::text[]");
        self
    }

    /// Adds bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.begin();
        self.0.push_str("'\\x");
        self.0.push_str(&audit::hex::encode(bytes));
        self.0.push('\'');
        self
    }

    /// Adds bytes, if there are some.
    pub(super) fn optional_bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.null(),
        }
    }

    /// Adds a number, if there is one.
    pub(super) fn optional_number(&mut self, number: Option<i64>) -> &mut Self {
        let Some(number) = number else { return self.null() };
        self.begin();
        // Writing to a text does not fail.
        let _ = write!(self.0, "{number}::bigint");
        self
    }

    /// Adds what is absent.
    pub(super) fn null(&mut self) -> &mut Self {
        self.begin();
        self.0.push_str("NULL");
        self
    }

    /// The arguments with commas between them; `None` if a text has a NUL character, at which the
    /// server would stop reading.
    pub(super) fn finish(self) -> Option<String> {
        (!self.0.contains('\0')).then_some(self.0)
    }

    fn begin(&mut self) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
    }

    fn quote(&mut self, text: &str) {
        self.0.push('\'');
        for (index, part) in text.split('\'').enumerate() {
            if index > 0 {
                self.0.push_str("''");
            }
            self.0.push_str(part);
        }
        self.0.push('\'');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_one_literal() {
        let mut to = Arguments::default();
        to.text("it's").text("'; DROP TABLE x; --").text("\\'").text("").null();
        to.bytes(&[0, 255]).optional_number(Some(-5)).optional_text(None).optional_bytes(None);
        to.texts(&["a,b".into(), "'".into()]).texts(&[]);
        assert_eq!(
            to.finish().as_deref(),
            Some(
                "'it''s','''; DROP TABLE x; --','\\''','',NULL,'\\x00ff',-5::bigint,NULL,NULL,\
                 ARRAY['a,b','''']::text[],ARRAY[]::text[]"
            )
        );
    }

    #[test]
    fn a_nul_character_is_refused() {
        let mut to = Arguments::default();
        to.text("a\0b");
        assert_eq!(to.finish(), None);
    }
}
